# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of --verify, run as a process.

Reads folders and inputs, writes features and logits.
"""

from collections.abc import Mapping, Sequence
import importlib.machinery
import importlib.util
import json
from pathlib import Path
import re
import sys
from typing import Any

import numpy as np

from filax.convert.verify import compare

LLM_KEYS = (  # Keys of an llm's config that change the numbers.
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "rms_norm_eps",
  "hidden_act",
  "rope_theta",
  "rope_scaling",
  "rope_parameters",
  "max_position_embeddings",
)
EXPORT_KIT = Path(__file__).parents[1] / "export_kit"


def main(argv: Sequence[str]) -> None:
  """Runs the PyTorch side: torch_side FOLDER OUT stages.

  Reads FOLDER/job.json and inputs.npz, writes OUT.
  """
  import torch

  job, arrays, out, _ = compare.read_job(argv)
  outputs: compare.Arrays = {}
  with torch.no_grad():
    for part in job["theirs"]:
      run_family = FAMILIES[part["family"]]
      outputs |= run_family(part, job, arrays)
  compare.write_arrays(out, outputs)


def load_program(name: str) -> Any:
  """Imports a program of export_kit, and the modules that it imports."""
  helpers = ("fila_video", "flash_towers") if name.startswith("run_") else ()
  for helper in ("prompts",) if name == "fila_video" else helpers:
    load_program(helper)
  loader = importlib.machinery.SourceFileLoader(name, str(EXPORT_KIT / f"{name}.py"))
  spec = importlib.util.spec_from_loader(name, loader)
  if spec is None:
    raise ImportError(f"{name} cannot be loaded from {EXPORT_KIT}.")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  loader.exec_module(module)
  return module


def dtype_option(dtype: str) -> dict[str, Any]:
  """The argument of from_pretrained that sets the dtype, in this version."""
  import torch

  return load_program("fila_video").dtype_option(getattr(torch, dtype))


def load_strictly(model_class, path: str, allowed: str = "", **options):
  """from_pretrained that fails for keys that do not fit.

  transformers only warns of them. `allowed`: a pattern of keys that may be missing or unexpected.
  Raises ValueError for other keys.
  """
  model, info = model_class.from_pretrained(path, output_loading_info=True, **options)
  for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    keys = []
    for key in map(str, info[kind]):
      if not allowed or not re.match(allowed, key):
        keys.append(key)
    if keys:
      raise ValueError(f"{path}: transformers reports {kind} {keys[:3]}")
  return model.eval()


def run_llava_onevision(part: Mapping, job: Mapping, arrays: Mapping) -> compare.Arrays:
  """A whole LLaVA model with names of schemes A to E."""
  from transformers import LlavaOnevisionForConditionalGeneration as Model

  program = load_program("run_llava")
  folder = Path(part["path"])
  settings = {"model": job["spelled"]}
  dtype = dtype_option(job["dtype"])
  if part["family"] == "llava":
    config = program.stock_config(job["spelled"])
    config.text_config = read_text_config(folder, config.text_config)
    state = program.renamed_state(folder)
    model = Model.from_pretrained(None, config=config, state_dict=state, **dtype).eval()
  else:
    model = load_strictly(Model, str(folder), r"model\.scene_merger", **dtype)
  tower, _, language_model, _ = program.submodules(model)
  recorder = OutputRecorder()
  recorder.watch_siglip(tower)
  recorder.watch_llm(language_model)
  features = program.encode_frames(model, arrays["frames"])
  recorder.outputs["features"] = _to_numpy(features)
  x = _embed(model, arrays["tokens"])
  if job["splice"]:
    groups = features.unflatten(0, (-1, settings["model"]["selector"]["size"]))
    table = program.visual_tokens(model, settings, program.fusion_weight(folder), groups)
    recorder.outputs["visual"] = _to_numpy(table)
    x = splice_visual(x, table)
  hidden = language_model(inputs_embeds=x, use_cache=False).last_hidden_state
  return recorder.with_result(logits=model.lm_head(hidden)[0])


def run_llm(part: Mapping, job: Mapping, arrays: Mapping) -> compare.Arrays:
  """A language model alone."""
  import torch
  from transformers import AutoModelForCausalLM

  model = load_strictly(AutoModelForCausalLM, part["path"], **dtype_option(job["dtype"]))
  recorder = OutputRecorder()
  recorder.watch_llm(model.model)
  tokens = torch.from_numpy(arrays["tokens"]).long()
  return recorder.with_result(logits=model(tokens, use_cache=False).logits[0])


def read_text_config(folder: Path, ours: Any) -> Any:
  """The config of the llm from a folder's own config.json.

  It does not depend on our reader, so a value that we read wrongly shows in the comparison. `ours`
  supplies missing values, and the vocabulary and the head of the files.
  """
  written = json.loads((folder / "config.json").read_text())
  defaults = ours.to_dict()
  rope_keys = [key for key in LLM_KEYS if key.startswith("rope")]
  if any(written.get(key) for key in rope_keys):
    for key in rope_keys:
      defaults.pop(key, None)
  values = {}
  for key in LLM_KEYS:
    if key in written or key in defaults:
      values[key] = written.get(key, defaults.get(key))
  values["vocab_size"] = ours.vocab_size
  values["tie_word_embeddings"] = ours.tie_word_embeddings
  return type(ours)(**values)


def run_siglip(part: Mapping, job: Mapping, arrays: Mapping) -> compare.Arrays:
  """A SigLIP tower alone.

  The last block of the released tower is not read.
  """
  from transformers import SiglipVisionModel

  unused = r"(text_model|logit_|vision_model\.head|head)"
  model = load_strictly(SiglipVisionModel, part["path"], unused, **dtype_option(job["dtype"]))
  recorder = OutputRecorder()
  recorder.watch_siglip(getattr(model, "vision_model", model))
  x = load_program("run_llava").normalised_pixels(arrays["frames"])
  x = x.to(next(model.parameters()))
  states = model(x, output_hidden_states=True).hidden_states
  return recorder.with_result(features=states[job["spelled"]["encoder"]["depth"]])


def run_flash(part: Mapping, job: Mapping, arrays: Mapping) -> compare.Arrays:
  """A whole VideoChat-Flash folder."""
  import torch

  program = load_program("run_flash")
  towers = sys.modules["flash_towers"]
  model = job["spelled"]
  folder = Path(part["path"])
  llm, tower, projector, _ = program.load_model(
    folder,
    getattr(torch, job["dtype"]),
    settings={"model": model},
    config=read_text_config(folder, program.llm_config(model["llm"])),
  )
  recorder = OutputRecorder()
  recorder.watch_blocks(tower)
  recorder.watch_llm(llm.model)
  frames = arrays["frames"]
  features = towers.encode_frames(tower, model["encoder"], frames, chunk=len(frames))
  recorder.outputs["features"] = _to_numpy(features)
  x = _embed(llm, arrays["tokens"])
  if job["splice"]:
    groups = features.unflatten(0, (-1, model["selector"]["size"]))
    table = program.visual_tokens(projector, model, groups)
    recorder.outputs["visual"] = _to_numpy(table)
    x = splice_visual(x, table)
  return recorder.with_result(logits=llm(inputs_embeds=x, use_cache=False).logits[0])


def run_tower(part: Mapping, job: Mapping, arrays: Mapping) -> compare.Arrays:
  """A video tower alone, from a separate file."""
  import torch

  load_program("run_flash")
  towers = sys.modules["flash_towers"]
  spec = job["spelled"]["encoder"]
  model = towers.TOWERS[spec["name"]](spec)
  model.load_state_dict(_tower_state(part["path"], model.state_dict().keys()))
  model = model.eval().to(getattr(torch, job["dtype"]))
  recorder = OutputRecorder()
  recorder.watch_blocks(model)
  frames = arrays["frames"]
  features = towers.encode_frames(model, spec, frames, chunk=len(frames))
  return recorder.with_result(features=features)


def _tower_state(path: str, names) -> dict[str, Any]:
  """The state dict of a tower, from its file."""
  import torch

  from filax.convert import file_names, torch_files

  tensors = torch_files.open_tensors(path)
  scheme = file_names.detect_scheme(tensors, [f"encoder.{name}" for name in names])
  state = {}
  for file_name, tensor in tensors.items():
    name = (scheme.canonical(file_name) or "").removeprefix("encoder.")
    if name in names:
      state[name] = torch.from_numpy(tensor.read_all().astype(np.float32))
  return state


def _embed(model, tokens: np.ndarray):
  """Token ids [1 L] -> embedded tokens [1 L D]."""
  import torch

  return model.get_input_embeddings()(torch.from_numpy(tokens).long())


def splice_visual(x, table):
  """Embedded tokens [1 L D] with the table after their first quarter."""
  import torch

  cut = x.shape[1] // 4
  before = x[:, :cut]
  after = x[:, cut:]
  visual = table[None].to(x)
  return torch.cat([before, visual, after], 1)


def _to_numpy(x) -> np.ndarray:
  return x.detach().float().numpy()


class OutputRecorder:
  """Keeps the outputs of modules, by our names."""

  def __init__(self):
    self.outputs: compare.Arrays = {}

  def watch(self, module, name: str, batched: bool = True) -> None:
    """Keeps every output of a module.

    Unless `batched`, only the first element of a batch of one is kept.
    """

    def hook(_module, _inputs, out):
      out = out[0] if isinstance(out, tuple) else out
      self.outputs[name] = _to_numpy(out if batched else out[0])

    module.register_forward_hook(hook)

  def watch_blocks(self, tower) -> None:
    """Keeps the output of every block of a video tower."""
    for i, block in enumerate(tower.blocks):
      self.watch(block, f"encoder.layers.{i}")

  def watch_siglip(self, tower) -> None:
    """Keeps the embeddings and the output of every layer."""
    inner = getattr(tower, "vision_model", tower)
    self.watch(inner.embeddings, "encoder.embeddings")
    for i, layer in enumerate(inner.encoder.layers):
      self.watch(layer, f"encoder.layers.{i}")

  def watch_llm(self, model) -> None:
    """Keeps the embedded tokens and the output of every layer."""

    def keep_input(_module, inputs, options):
      x = inputs[0] if inputs else options["hidden_states"]
      self.outputs["llm.embed_tokens"] = _to_numpy(x[0])

    model.layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)
    for i, layer in enumerate(model.layers):
      self.watch(layer, f"llm.layers.{i}", batched=False)

  def with_result(self, **result) -> compare.Arrays:
    """All kept outputs, and then the result."""
    return self.outputs | {name: _to_numpy(x) for name, x in result.items()}


FAMILIES = {
  "llava_onevision": run_llava_onevision,
  "llava": run_llava_onevision,
  "qwen2": run_llm,
  "qwen3": run_llm,
  "llama": run_llm,
  "siglip": run_siglip,
  "videochat-flash": run_flash,
  "tower": run_tower,
}

if __name__ == "__main__":
  main(sys.argv)
