# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of --verify, run as a process: folders and inputs in, features, logits out."""

from collections.abc import Mapping
import importlib.machinery
import importlib.util
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np

from filax.convert.verify import compare

QWEN2 = (  # What of a Qwen2Config decides the numbers.
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


def main(argv) -> None:
  """torch_side FOLDER OUT stages: reads FOLDER/job.json and inputs.npz, writes OUT."""
  import torch

  job, arrays, out, _ = compare.start(argv)
  found: dict[str, np.ndarray] = {}
  with torch.no_grad():
    for part in job["theirs"]:
      found |= FAMILIES[part["family"]](part, job, arrays)
  np.savez(out, **found)


def template(name: str) -> Any:
  """A program of an exported folder as a module, and those that it imports."""
  if name.startswith("run_"):
    for helper in ("fila_video", "flash_towers"):
      template(helper)
  loader = importlib.machinery.SourceFileLoader(name, str(EXPORT_KIT / f"{name}.py"))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
  sys.modules[name] = module
  loader.exec_module(module)
  return module


def kind(dtype: str) -> dict[str, Any]:
  """The argument of from_pretrained that sets the dtype, in this version."""
  import torch
  import transformers

  version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
  return {"dtype" if version >= (4, 56) else "torch_dtype": getattr(torch, dtype)}


def strict(model_class, path: str, allowed: str = "", **options):
  """from_pretrained, which only warns of what it did not find: here that is an error."""
  import re

  model, info = model_class.from_pretrained(path, output_loading_info=True, **options)
  for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    if names := [str(n) for n in info[key] if not (allowed and re.match(allowed, str(n)))]:
      raise ValueError(f"{path}: transformers reports {key} {names[:3]}")
  return model.eval()


def llava_onevision(part: Mapping, job: Mapping, arrays: Mapping) -> dict[str, np.ndarray]:
  """A whole model under any of the names A to E."""
  import torch
  from transformers import LlavaOnevisionForConditionalGeneration as Model

  tools = template("run_llava")
  folder, settings = Path(part["path"]), {"model": job["spelled"]}
  if part["family"] == "llava":
    config = tools.stock_config(job["spelled"])
    config.text_config = text_config(folder, config.text_config)
    model = Model.from_pretrained(
      None, config=config, state_dict=tools.renamed(folder), **kind(job["dtype"])
    ).eval()
  else:
    model = strict(Model, str(folder), r"model\.scene_merger", **kind(job["dtype"]))
  tower, _, language, _ = tools.parts(model)
  record = Recorder()
  record.siglip(tower)
  record.qwen2(language)
  features = tools.encode(model, arrays["frames"])
  record.found["features"] = numpy(features)
  x = model.get_input_embeddings()(torch.from_numpy(arrays["tokens"]).long())
  if job["splice"]:
    groups = features.unflatten(0, (-1, settings["model"]["selector"]["size"]))
    table = tools.see(model, settings, tools.fusion(folder), groups)
    record.found["visual"] = numpy(table)
    x = spliced(x, table)
  hidden = language(inputs_embeds=x, use_cache=False).last_hidden_state
  return record.done(logits=model.lm_head(hidden)[0])


def qwen2(part: Mapping, job: Mapping, arrays: Mapping) -> dict[str, np.ndarray]:
  """A language model alone."""
  import torch
  from transformers import Qwen2ForCausalLM

  model = strict(Qwen2ForCausalLM, part["path"], **kind(job["dtype"]))
  record = Recorder()
  record.qwen2(model.model)
  tokens = torch.from_numpy(arrays["tokens"]).long()
  return record.done(logits=model(tokens, use_cache=False).logits[0])


def text_config(folder: Path, ours: Any) -> Any:
  """The Qwen2Config that a folder's own config.json spells: a value that was read wrongly shows.

  `ours` fills what it leaves out, and has the vocabulary and the head of the files.
  """
  from transformers import Qwen2Config

  says, known = json.loads((folder / "config.json").read_text()), ours.to_dict()
  rope = [key for key in QWEN2 if key.startswith("rope")]
  if any(says.get(key) for key in rope):
    known = {key: value for key, value in known.items() if key not in rope}
  found = {key: says.get(key, known.get(key)) for key in QWEN2 if key in says or key in known}
  return Qwen2Config(
    **found | dict(vocab_size=ours.vocab_size, tie_word_embeddings=ours.tie_word_embeddings)
  )


def siglip(part: Mapping, job: Mapping, arrays: Mapping) -> dict[str, np.ndarray]:
  """A tower alone; of the released one the last block is not read."""
  from transformers import SiglipVisionModel

  model = strict(
    SiglipVisionModel,
    part["path"],
    r"(text_model|logit_|vision_model\.head|head)",
    **kind(job["dtype"]),
  )
  record = Recorder()
  tower = getattr(model, "vision_model", model)
  record.siglip(tower)
  x = template("run_llava").pixels(arrays["frames"]).to(next(model.parameters()))
  states = model(x, output_hidden_states=True).hidden_states
  return record.done(features=states[job["spelled"]["encoder"]["depth"]])


def flash(part: Mapping, job: Mapping, arrays: Mapping) -> dict[str, np.ndarray]:
  """A whole VideoChat-Flash folder."""
  import torch

  tools, towers = template("run_flash"), sys.modules["flash_towers"]
  model = job["spelled"]
  folder = Path(part["path"])
  llm, tower, projector, _ = tools.load(
    folder,
    getattr(torch, job["dtype"]),
    settings={"model": model},
    config=text_config(folder, tools.llm_config(model["llm"])),
  )
  record = Recorder()
  for i, block in enumerate(tower.blocks):
    record.keep(block, f"encoder.layers.{i}")
  record.qwen2(llm.model)
  features = towers.encode(tower, model["encoder"], arrays["frames"], chunk=len(arrays["frames"]))
  record.found["features"] = numpy(features)
  x = llm.get_input_embeddings()(torch.from_numpy(arrays["tokens"]).long())
  if job["splice"]:
    groups = features.unflatten(0, (-1, model["selector"]["size"]))
    table = tools.see(projector, model, groups)
    record.found["visual"] = numpy(table)
    x = spliced(x, table)
  return record.done(logits=llm(inputs_embeds=x, use_cache=False).logits[0])


def tower(part: Mapping, job: Mapping, arrays: Mapping) -> dict[str, np.ndarray]:
  """A video tower alone, from a file of its own."""
  import torch

  from filax.convert import file_names, torch_files

  template("run_flash")
  towers, spec = sys.modules["flash_towers"], job["spelled"]["encoder"]
  found = torch_files.open_all(part["path"])
  model = towers.TOWERS[spec["name"]](spec)
  scheme = file_names.detect(found, [f"encoder.{name}" for name in model.state_dict()])
  state = {}
  for name, tensor in found.items():
    inner = (scheme.canonical(name) or "").removeprefix("encoder.")
    if inner in model.state_dict():
      state[inner] = torch.from_numpy(tensor[...,].astype(np.float32))
  model.load_state_dict(state)
  model = model.eval().to(getattr(torch, job["dtype"]))
  record = Recorder()
  for i, block in enumerate(model.blocks):
    record.keep(block, f"encoder.layers.{i}")
  frames = arrays["frames"]
  return record.done(features=towers.encode(model, spec, frames, chunk=len(frames)))


def spliced(x, table):
  """Embedded tokens [1 L D] with the table after their first quarter."""
  import torch

  cut = x.shape[1] // 4
  return torch.cat([x[:, :cut], table[None].to(x), x[:, cut:]], 1)


def numpy(x) -> np.ndarray:
  return x.detach().float().numpy()


class Recorder:
  """Keeps what modules put out, by our names."""

  def __init__(self):
    self.found: dict[str, np.ndarray] = {}

  def keep(self, module, name: str, batched: bool = True) -> None:
    def hook(_module, _inputs, out):
      out = out[0] if isinstance(out, tuple) else out
      self.found[name] = numpy(out if batched else out[0])

    module.register_forward_hook(hook)

  def siglip(self, tower) -> None:
    inner = getattr(tower, "vision_model", tower)
    self.keep(inner.embeddings, "encoder.embeddings")
    for i, layer in enumerate(inner.encoder.layers):
      self.keep(layer, f"encoder.layers.{i}")

  def qwen2(self, model) -> None:
    def first(_module, inputs, options):
      x = inputs[0] if inputs else options["hidden_states"]
      self.found["llm.embed_tokens"] = numpy(x[0])

    model.layers[0].register_forward_pre_hook(first, with_kwargs=True)
    for i, layer in enumerate(model.layers):
      self.keep(layer, f"llm.layers.{i}", batched=False)

  def done(self, **final) -> dict[str, np.ndarray]:
    return self.found | {name: numpy(x) for name, x in final.items()}


FAMILIES = {
  "llava_onevision": llava_onevision,
  "llava": llava_onevision,
  "qwen2": qwen2,
  "siglip": siglip,
  "videochat-flash": flash,
  "tower": tower,
}

if __name__ == "__main__":
  main(sys.argv)
