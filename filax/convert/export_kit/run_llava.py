#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Answers a question about a video with this model.

  python run_torch.py --video lecture.mp4 --question "When is the proof finished?"

Needs stock transformers (>= 4.52) and PyAV. The weights are those of
LlavaOnevisionForConditionalGeneration. This program uses its public sub-modules, and adds the
selection of scenes, the fusion of their frames and splicing. In float32 the answer is that of
`filax chat`, token for token. Settings are in config.json, "fila_config".
"""

import json
import math
import pathlib

import fila_video
from fila_video import llm_config
import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
INDEX = "model.safetensors.index.json"


def load_model(folder=HERE, dtype=torch.float32, device="cpu"):
  """Model, settings and fusion weight of an exported folder.

  The fusion weight is [K N E], or None.
  """
  from transformers import LlavaOnevisionForConditionalGeneration as Model

  options = fila_video.dtype_option(dtype)
  config = json.loads((folder / "config.json").read_text())
  settings = fila_video.supported_settings(config["fila_config"])
  if config["model_type"] == "llava_onevision":
    model = Model.from_pretrained(folder, **options)
  else:  # LLaVA-NeXT's names (--format llava): the same tensors, renamed.
    config = stock_config(settings["model"])
    state = renamed_state(folder)
    model = Model.from_pretrained(None, config=config, state_dict=state, **options)
  return model.eval().to(device), settings, fusion_weight(folder)


def read_tensors(folder):
  """Yields (name, tensor) of all shards."""
  from safetensors import safe_open

  for file in sorted(folder.glob("*.safetensors")):
    with safe_open(file, "pt") as shard:
      for name in shard.keys():
        yield name, shard.get_tensor(name)


def fusion_weight(folder):
  """The fusion weight of an exported folder; None without one.

  Read from its own file, or from the model's files.
  """
  from safetensors import safe_open

  name = "weight"
  file = folder / "fila" / "scene_merger.safetensors"
  if not file.exists():
    name = "model.scene_merger.weight"
    index = folder / INDEX
    if not index.exists():
      return None
    weight_map = json.loads(index.read_text())["weight_map"]
    if name not in weight_map:
      return None
    file = folder / weight_map[name]
  with safe_open(file, "pt") as shard:
    return shard.get_tensor(name).float()


def stock_config(model):
  """The LlavaOnevisionConfig of a model described in FiLax's terms."""
  from transformers import LlavaOnevisionConfig, SiglipVisionConfig

  tower = model["encoder"]
  llm = model["llm"]
  vision_config = SiglipVisionConfig(
    hidden_size=tower["width"],
    intermediate_size=tower["mlp"],
    image_size=tower["size"],
    num_hidden_layers=tower["depth"],
    num_attention_heads=tower["heads"],
    patch_size=tower["patch"],
    layer_norm_eps=tower["eps"],
    vision_use_head=False,
  )
  return LlavaOnevisionConfig(
    vision_config=vision_config,
    text_config=llm_config(llm),
    tie_word_embeddings=llm["tied"],
    vision_feature_layer=-1,
    vision_feature_select_strategy="full",
  )


def renamed_state(folder):
  """A LLaVA-NeXT folder's state dict, renamed as on the hub."""
  rows = (
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.image_newline", "image_newline"),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
  )
  state = {}
  for name, tensor in read_tensors(folder):
    old, new = next(row for row in rows if name.startswith(row[0]))
    state[new + name[len(old) :]] = tensor
  return state


def submodules(model):
  """(vision tower, projector, language model, newline) of a model.

  Their places depend on the version of transformers.
  """
  inner = model.model if hasattr(model.model, "vision_tower") else model
  return (
    inner.vision_tower,
    inner.multi_modal_projector,
    inner.language_model,
    inner.image_newline,
  )


def encode_frames(model, frames, chunk=16):
  """Input features of the projector.

  frames uint8 [T h w 3] -> [T N E].
  """
  tower, *_ = submodules(model)
  weight = next(model.parameters())
  layer = model.config.vision_feature_layer
  features = []
  for start in range(0, len(frames), chunk):
    x = normalised_pixels(frames[start : start + chunk]).to(weight)
    states = tower(x, output_hidden_states=True).hidden_states
    features.append(states[layer])
  return torch.cat(features)


def normalised_pixels(frames):
  """Pixels scaled to -1..1.

  uint8 [T h w 3] -> float32 [T 3 h w].
  """
  x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
  return (x.float() / 255 - 0.5) / 0.5


def visual_tokens(model, settings, weight, groups):
  """Visual tokens for the llm, from features of groups.

  [G K N E] -> [M D].
  """
  _, project, _, newline = submodules(model)
  options = settings["model"]["projector"]
  side = options["pool_side"]
  stage = settings["model"]["merge_stage"]
  shape = groups.shape[:2]
  if stage == "vision":
    x = pool_tokens(project(merge_frames(groups, weight)), side)
  elif stage == "projector":
    x = project(groups.flatten(0, 1)).unflatten(0, shape)
    x = pool_tokens(merge_frames(x, weight), side)
  else:
    x = pool_tokens(project(groups.flatten(0, 1)), side)
    x = merge_frames(x.unflatten(0, shape), weight)
  return add_newlines(x, newline, options["newline"])


def merge_frames(x, weight):
  """Weighted sum over the frames of a group, or their mean.

  [G K N E] -> [G N E].
  """
  if weight is None:
    return x.float().mean(1).to(x)
  return (x.float() * weight.to(x.device)).sum(1).to(x)


def pool_tokens(x, side):
  """Bilinear pooling of token grids.

  [G N D] -> [G M D], to ceil(side of the grid / `side`).
  """
  if side == 1:
    return x
  grid = math.isqrt(x.shape[1])
  out = math.ceil(grid / side)
  maps = x.transpose(1, 2).unflatten(2, (grid, grid)).float()
  maps = torch.nn.functional.interpolate(maps, size=(out, out), mode="bilinear")
  return maps.to(x).flatten(2).transpose(1, 2)


def add_newlines(x, newline, mode):
  """Adds newline vectors as in training.

  [G N D] -> [M D].
  """
  groups, tokens, width = x.shape
  if mode == "none":
    return x.flatten(0, 1)
  newline = newline.to(x)
  if mode == "one_token":
    return torch.cat([x.flatten(0, 1), newline[None]])
  rows = math.isqrt(tokens) if mode == "grid" else 1
  lines = x.reshape(groups * rows, tokens // rows, width)
  newlines = newline.expand(len(lines), 1, width)
  return torch.cat([lines, newlines], 1).flatten(0, 1)


@torch.no_grad()
def answer_question(model, settings, weight, tokenizer, video, question, max_new_tokens=None):
  """(ids, text) of the answer, greedily."""
  size = settings["model"]["encoder"]["size"]
  frames, times, duration = fila_video.read_video(video, settings, size)
  features = encode_frames(model, frames)
  means = features.float().mean(1).cpu().numpy()
  groups = fila_video.select_frames(means, settings["infer"]["selector"], times)
  table = visual_tokens(model, settings, weight, features[groups])
  group_times = times[groups]
  representative_times = group_times[:, settings["representative"]]
  before, after = fila_video.prompt_ids(
    tokenizer, settings, question, duration, group_times.reshape(-1), representative_times
  )
  return fila_video.generate_answer(
    model, settings, tokenizer, before, table, after, max_new_tokens
  )


def main():
  options = fila_video.parse_options((__doc__ or "").split("\n")[0])
  model, settings, weight = load_model(HERE, getattr(torch, options.dtype), options.device)
  tokenizer = fila_video.TextTokenizer(HERE)
  ids, text = answer_question(
    model, settings, weight, tokenizer, options.video, options.question, options.max_new_tokens
  )
  fila_video.print_answer(ids, text, options.json)


if __name__ == "__main__":
  main()
