#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Answers a question about a video with this model.

  python run_torch.py --video lecture.mp4 --question "When is the proof finished?"

Needs stock transformers and PyAV. The weights have VideoChat-Flash's released names. The language
model is transformers' Qwen2; tower and token merging are in flash_towers.py. In float32 the answer
is that of `filax chat`, token for token. Settings are in config.json, "fila_config".
"""

import json
import pathlib

import fila_video
from fila_video import llm_config
import flash_towers
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
TOWER = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector.mlp."


def load_model(folder=HERE, dtype=torch.float32, device="cpu", settings=None, config=None):
  """(llm, tower, projector, settings) of an exported or released folder.

  `config`: the Qwen2Config of the llm; by default derived from the settings.
  """
  from safetensors import safe_open

  if settings is None:
    config_json = json.loads((folder / "config.json").read_text())
    settings = fila_video.supported_settings(config_json["fila_config"])
  state = {}
  for file in sorted(folder.glob("*.safetensors")):
    with safe_open(file, "pt") as shard:
      for name in shard.keys():
        state[name] = shard.get_tensor(name)
  modules = build_modules(state, settings["model"], config)
  llm, tower, projector = (module.eval().to(device, dtype) for module in modules)
  return llm, tower, projector, settings


def build_modules(state, model, config=None):
  """(llm, tower, projector) from a state dict under the released names."""
  from transformers import Qwen2ForCausalLM

  spec = model["encoder"]
  prefix = TOWER + "encoder." if spec["name"] == "umt" else TOWER
  tower = flash_towers.TOWERS[spec["name"]](spec)
  tower.load_state_dict(pop_prefix(state, prefix))
  width = model["llm"]["width"]
  linear_1 = nn.Linear(spec["width"], width)
  linear_2 = nn.Linear(width, width)
  projector = nn.Sequential(linear_1, nn.GELU(), linear_2)
  projector.load_state_dict(pop_prefix(state, PROJECTOR))
  if model["llm"]["tied"]:
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
  config = config or llm_config(model["llm"])
  llm = Qwen2ForCausalLM.from_pretrained(None, config=config, state_dict=dict(state))
  return llm, tower, projector


def pop_prefix(state, prefix):
  """Takes the tensors under a prefix out of a state dict."""
  names = [name for name in state if name.startswith(prefix)]
  return {name[len(prefix) :]: state.pop(name).float() for name in names}


def visual_tokens(projector, model, groups):
  """Visual tokens for the llm, from features of groups.

  [G K N E] -> [M D].
  """
  size = groups.shape[1]
  merger = model["merger"]
  target = size * merger["tokens"]
  x = flash_towers.merge_tokens(groups.flatten(1, 2), target, merger["heads"])
  return projector(x.to(groups)).flatten(0, 1)


@torch.no_grad()
def answer_question(
  llm, tower, projector, settings, tokenizer, video, question, max_new_tokens=None
):
  """(ids, text) of the answer, greedily."""
  model = settings["model"]
  frames, times, duration = fila_video.read_video(video, settings, model["encoder"]["size"])
  features = flash_towers.encode_frames(tower, model["encoder"], frames)
  means = features.float().mean(1).cpu().numpy()
  groups = fila_video.select_frames(means, settings["infer"]["selector"], times)
  table = visual_tokens(projector, model, features[groups])
  group_times = times[groups]
  representative_times = group_times[:, settings["representative"]]
  before, after = fila_video.prompt_ids(
    tokenizer, settings, question, duration, group_times.reshape(-1), representative_times
  )
  return fila_video.generate_answer(llm, settings, tokenizer, before, table, after, max_new_tokens)


def main():
  options = fila_video.parse_options((__doc__ or "").split("\n")[0])
  dtype = getattr(torch, options.dtype)
  llm, tower, projector, settings = load_model(HERE, dtype, options.device)
  tokenizer = fila_video.TextTokenizer(HERE)
  ids, text = answer_question(
    llm,
    tower,
    projector,
    settings,
    tokenizer,
    options.video,
    options.question,
    options.max_new_tokens,
  )
  fila_video.print_answer(ids, text, options.json)


if __name__ == "__main__":
  main()
