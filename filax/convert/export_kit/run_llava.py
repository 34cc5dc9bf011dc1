#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Asks this model about a video, with stock transformers (>= 4.52) and PyAV:

  python run_torch.py --video lecture.mp4 --question "When is the proof finished?"

The weights are those of LlavaOnevisionForConditionalGeneration. What that class does not do is done
here, from its public sub-modules: selection of scenes, fusion of their frames, splicing. In float32
the answer is that of `filax chat`, token for token. Settings are in config.json, "fila_config".
"""

import argparse
import json
import math
import pathlib

from fila_video import Tokenizer, check, prompt, read, select, stops, yarn
import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
INDEX = "model.safetensors.index.json"


def load(folder=HERE, dtype=torch.float32, device="cpu"):
  """(model, settings, fusion weight [K N E] or None) of an exported folder."""
  import transformers
  from transformers import LlavaOnevisionForConditionalGeneration as Model

  version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
  kind = {"dtype" if version >= (4, 56) else "torch_dtype": dtype}
  config = json.loads((folder / "config.json").read_text())
  settings = check(config["fila_config"])
  if config["model_type"] == "llava_onevision":
    model = Model.from_pretrained(folder, **kind)
  else:  # LLaVA-NeXT's names (--format llava): the same tensors, renamed.
    model = Model.from_pretrained(
      None, config=stock_config(settings["model"]), state_dict=renamed(folder), **kind
    )
  return model.eval().to(device), settings, fusion(folder)


def tensors(folder):
  """Yields (name, tensor) of all shards."""
  from safetensors import safe_open

  for file in sorted(folder.glob("*.safetensors")):
    with safe_open(file, "pt") as shard:
      for name in shard.keys():
        yield name, shard.get_tensor(name)


def fusion(folder):
  """The fusion weight, from its own file or from among the others."""
  from safetensors import safe_open

  file, index = folder / "fila" / "scene_merger.safetensors", folder / INDEX
  name = "model.scene_merger.weight"
  if file.exists():
    name = "weight"
  elif index.exists() and name in (names := json.loads(index.read_text())["weight_map"]):
    file = folder / names[name]
  else:
    return None
  with safe_open(file, "pt") as shard:
    return shard.get_tensor(name).float()


def stock_config(model):
  """The LlavaOnevisionConfig of a model that is described in our words."""
  from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

  tower, llm = model["encoder"], model["llm"]
  vision = SiglipVisionConfig(
    hidden_size=tower["width"],
    intermediate_size=tower["mlp"],
    image_size=tower["size"],
    num_hidden_layers=tower["depth"],
    num_attention_heads=tower["heads"],
    patch_size=tower["patch"],
    layer_norm_eps=tower["eps"],
    vision_use_head=False,
  )
  text = Qwen2Config(
    hidden_size=llm["width"],
    intermediate_size=llm["mlp"],
    num_hidden_layers=llm["depth"],
    num_attention_heads=llm["heads"],
    num_key_value_heads=llm["kv_heads"],
    vocab_size=llm["vocab"],
    rms_norm_eps=llm["eps"],
    max_position_embeddings=llm["positions"],
    rope_theta=llm["theta"],
    rope_scaling=yarn(llm),
    tie_word_embeddings=llm["tied"],
  )
  return LlavaOnevisionConfig(
    vision_config=vision,
    text_config=text,
    tie_word_embeddings=llm["tied"],
    vision_feature_layer=-1,
    vision_feature_select_strategy="full",
  )


def renamed(folder):
  """The state dict of a LLaVA-NeXT folder under the names of the hub."""
  rows = (
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.image_newline", "image_newline"),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
  )
  state = {}
  for name, tensor in tensors(folder):
    old, new = next(row for row in rows if name.startswith(row[0]))
    state[new + name[len(old) :]] = tensor
  return state


def parts(model):
  """(vision tower, projector, language model, newline) wherever this version keeps them."""
  inner = model.model if hasattr(model.model, "vision_tower") else model
  return (
    inner.vision_tower,
    inner.multi_modal_projector,
    inner.language_model,
    inner.image_newline,
  )


def encode(model, frames, chunk=16):
  """frames uint8 [T h w 3] -> features of the layer that the projector reads [T N E]."""
  tower, weight = parts(model)[0], next(model.parameters())
  layer, out = model.config.vision_feature_layer, []
  for start in range(0, len(frames), chunk):
    x = pixels(frames[start : start + chunk]).to(weight)
    out.append(tower(x, output_hidden_states=True).hidden_states[layer])
  return torch.cat(out)


def pixels(frames):
  """uint8 [T h w 3] -> float32 [T 3 h w] between -1 and 1."""
  x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
  return (x.float() / 255 - 0.5) / 0.5


def see(model, settings, weight, groups):
  """Features of groups of frames [G K N E] -> the tokens that the llm sees [M D]."""
  _, project, _, newline = parts(model)
  projector, stage = settings["model"]["projector"], settings["model"]["merge_stage"]
  shape, side = groups.shape[:2], projector["pool_side"]
  if stage == "vision":
    x = pool(project(merge(groups, weight)), side)
  elif stage == "projector":
    x = pool(merge(project(groups.flatten(0, 1)).unflatten(0, shape), weight), side)
  else:
    x = merge(pool(project(groups.flatten(0, 1)), side).unflatten(0, shape), weight)
  return end(x, newline, projector["newline"])


def merge(x, weight):
  """[G K N E] -> [G N E]: the weighted sum over the frames of a group, or their mean."""
  if weight is None:
    return x.float().mean(1).to(x)
  return (x.float() * weight.to(x.device)).sum(1).to(x)


def pool(x, side):
  """[G N D] -> [G M D]: bilinear, to ceil(side of the grid / `side`)."""
  if side == 1:
    return x
  grid = math.isqrt(x.shape[1])
  x = x.transpose(1, 2).unflatten(2, (grid, grid))
  out = math.ceil(grid / side)
  x = torch.nn.functional.interpolate(x.float(), size=(out, out), mode="bilinear").to(x)
  return x.flatten(2).transpose(1, 2)


def end(x, newline, mode):
  """[G N D] -> [M D] with the newline vector where the model was trained to find it."""
  groups, tokens, width = x.shape
  if mode == "none":
    return x.flatten(0, 1)
  newline = newline.to(x)
  if mode == "one_token":
    return torch.cat([x.flatten(0, 1), newline[None]])
  rows = math.isqrt(tokens) if mode == "grid" else 1
  x = x.reshape(groups * rows, tokens // rows, width)
  return torch.cat([x, newline.expand(len(x), 1, width)], 1).flatten(0, 1)


@torch.no_grad()
def ask(model, settings, weight, tokenizer, video, question, max_new_tokens=None):
  """(ids, text) of the answer, greedily."""
  frames, times, duration = read(video, settings, settings["model"]["encoder"]["size"])
  x = encode(model, frames)
  means = x.float().mean(1).cpu().numpy()
  selector = settings["infer"]["selector"]
  groups = select(means, selector, np.diff(times, prepend=-np.inf) > 0)
  table = see(model, settings, weight, x[groups])
  seen = times[groups]
  before, after = prompt(
    tokenizer, settings, question, duration, seen.reshape(-1), seen[:, settings["representative"]]
  )
  embed = model.get_input_embeddings()
  place = lambda ids: embed(torch.tensor(ids, dtype=torch.long, device=table.device))
  stop = stops(tokenizer, settings)
  whole = torch.cat([place(before), table, place(after)])[None]
  rows = embed.weight.shape[0]
  ids = model.generate(
    inputs_embeds=whole,
    attention_mask=torch.ones(whole.shape[:2], dtype=torch.long, device=whole.device),
    max_new_tokens=max_new_tokens or settings["infer"]["max_new_tokens"],
    do_sample=False,
    eos_token_id=stop,
    pad_token_id=settings["pad"],
    suppress_tokens=list(range(settings["tokens"], rows)) or None,
  )[0].tolist()
  ids = ids[: next((i for i, t in enumerate(ids) if t in stop), len(ids))]
  return ids, tokenizer.decode(ids, settings["controls"]).strip()


def main():
  options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  options.add_argument("--video", required=True)
  options.add_argument("--question", required=True)
  options.add_argument("--max-new-tokens", type=int)
  options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
  options.add_argument("--device", default="cpu")
  options.add_argument("--json", action="store_true", help="print the ids as well")
  options = options.parse_args()
  model, settings, weight = load(HERE, getattr(torch, options.dtype), options.device)
  ids, text = ask(
    model,
    settings,
    weight,
    Tokenizer(HERE),
    options.video,
    options.question,
    options.max_new_tokens,
  )
  print(json.dumps(dict(ids=ids, text=text)) if options.json else text)


if __name__ == "__main__":
  main()
