#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Asks this model about a video, with stock transformers and PyAV:

  python run_torch.py --video lecture.mp4 --question "When is the proof finished?"

The weights lie under VideoChat-Flash's released names. The language model is transformers' Qwen2;
tower and token merging are in flash_towers.py. In float32 the answer is that of `filax chat`, token
for token. Settings are in config.json, "fila_config".
"""

import argparse
import json
import pathlib

from fila_video import Tokenizer, check, prompt, read, select, stops, yarn
from flash_towers import TOWERS, encode, merge
import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
TOWER, PROJECTOR = "model.vision_tower.vision_tower.", "model.mm_projector.mlp."


def load(folder=HERE, dtype=torch.float32, device="cpu", settings=None, config=None):
  """(llm, tower, projector, settings) of an exported or released folder.

  `config`: the Qwen2Config of the llm; default: as the settings describe it.
  """
  from safetensors import safe_open

  settings = settings or check(json.loads((folder / "config.json").read_text())["fila_config"])
  state = {}
  for file in sorted(folder.glob("*.safetensors")):
    with safe_open(file, "pt") as shard:
      state |= {name: shard.get_tensor(name) for name in shard.keys()}
  return *modules(state, settings["model"], dtype, device, config), settings


def modules(state, model, dtype=torch.float32, device="cpu", config=None):
  """(llm, tower, projector) from a state dict under the released names."""
  from transformers import Qwen2ForCausalLM

  spec = model["encoder"]
  names = {"umt": TOWER + "encoder.", "internvideo2": TOWER}[spec["name"]]
  tower = TOWERS[spec["name"]](spec)
  tower.load_state_dict(taken(state, names))
  width = model["llm"]["width"]
  projector = nn.Sequential(nn.Linear(spec["width"], width), nn.GELU(), nn.Linear(width, width))
  projector.load_state_dict(taken(state, PROJECTOR))
  if model["llm"]["tied"]:
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
  llm = Qwen2ForCausalLM.from_pretrained(
    None, config=config or llm_config(model["llm"]), state_dict=dict(state)
  )
  return tuple(module.eval().to(device, dtype) for module in (llm, tower, projector))


def llm_config(llm):
  from transformers import Qwen2Config

  return Qwen2Config(
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


def taken(state, prefix):
  """Takes the tensors under a prefix out of a state dict."""
  names = [name for name in state if name.startswith(prefix)]
  return {name[len(prefix) :]: state.pop(name).float() for name in names}


def see(projector, model, groups):
  """Features of groups of frames [G K N E] -> the tokens that the llm sees [M D]."""
  size = groups.shape[1]
  merger = model["merger"]
  x = merge(groups.flatten(1, 2), size * merger["tokens"], merger["heads"])
  return projector(x.to(groups)).flatten(0, 1)


@torch.no_grad()
def ask(llm, tower, projector, settings, tokenizer, video, question, max_new_tokens=None):
  """(ids, text) of the answer, greedily."""
  model, infer = settings["model"], settings["infer"]
  frames, times, duration = read(video, settings, model["encoder"]["size"])
  x = encode(tower, model["encoder"], frames)
  groups = select(
    x.float().mean(1).cpu().numpy(), infer["selector"], np.diff(times, prepend=-np.inf) > 0
  )
  table = see(projector, model, x[groups])
  seen = times[groups]
  before, after = prompt(
    tokenizer, settings, question, duration, seen.reshape(-1), seen[:, settings["representative"]]
  )
  embed = llm.get_input_embeddings()
  place = lambda ids: embed(torch.tensor(ids, dtype=torch.long, device=table.device))
  stop = stops(tokenizer, settings)
  whole = torch.cat([place(before), table, place(after)])[None]
  ids = llm.generate(
    inputs_embeds=whole,
    attention_mask=torch.ones_like(whole[..., 0], dtype=torch.long),
    max_new_tokens=max_new_tokens or infer["max_new_tokens"],
    do_sample=False,
    eos_token_id=stop,
    pad_token_id=settings["pad"],
    suppress_tokens=list(range(settings["tokens"], embed.weight.shape[0])) or None,
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
  parts = load(HERE, getattr(torch, options.dtype), options.device)
  ids, text = ask(*parts, Tokenizer(HERE), options.video, options.question, options.max_new_tokens)
  print(json.dumps(dict(ids=ids, text=text)) if options.json else text)


if __name__ == "__main__":
  main()
