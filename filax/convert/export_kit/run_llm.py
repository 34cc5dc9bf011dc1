#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Continues a prompt with this language model.

Needs stock transformers.

python run_torch.py --question "What is a proof?"
"""

import argparse
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

HERE = pathlib.Path(__file__).resolve().parent


@torch.no_grad()
def main():
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--question", required=True)
  parser.add_argument("--max-new-tokens", type=int, default=256)
  options = parser.parse_args()
  model = AutoModelForCausalLM.from_pretrained(HERE).eval()
  tokenizer = AutoTokenizer.from_pretrained(HERE)
  text = f"<|im_start|>user\n{options.question}<|im_end|>\n<|im_start|>assistant\n"
  if tokenizer.chat_template:
    messages = [dict(role="user", content=options.question)]
    written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    text = str(written)
  ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
  mask = torch.ones_like(ids)
  # Without the folder's other settings, such as a repetition penalty: FiLax has none by default.
  model.generation_config = GenerationConfig(
    max_new_tokens=options.max_new_tokens,
    do_sample=False,
    eos_token_id=model.generation_config.eos_token_id,
    pad_token_id=model.generation_config.pad_token_id,
  )
  out = model.generate(ids, attention_mask=mask)
  answer = out[0, ids.shape[1] :]
  print(tokenizer.decode(answer, skip_special_tokens=True))


if __name__ == "__main__":
  main()
