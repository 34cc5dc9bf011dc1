# SPDX-License-Identifier: Apache-2.0
"""Loads an exported folder and prints what happened as JSON; run by another Python environment.

python load_export.py FOLDER inputs.npz hf|hf-remote|qwen2
"""

import json
import sys

import numpy as np
import torch
import transformers


def main(folder, inputs, form):
  arrays = np.load(inputs)
  tokens = torch.tensor(arrays["tokens"]).long()
  if form == "qwen2":
    kind, options = transformers.Qwen2ForCausalLM, {}
  elif form == "hf-remote":
    kind, options = transformers.AutoModelForImageTextToText, dict(trust_remote_code=True)
  else:
    kind, options = transformers.LlavaOnevisionForConditionalGeneration, {}
  model, info = kind.from_pretrained(folder, output_loading_info=True, dtype="auto", **options)
  model = model.eval()
  more = {}
  if form != "qwen2":
    x = (torch.tensor(arrays["frames"]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    more = dict(pixel_values_videos=x[None])
  with torch.no_grad():
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).logits
    made = model.generate(
      input_ids=tokens,
      attention_mask=torch.ones_like(tokens),
      max_new_tokens=4,
      do_sample=False,
      eos_token_id=None,
      pad_token_id=0,
      **more,
    )
  print(
    json.dumps(
      dict(
        version=transformers.__version__,
        dtypes={name: str(p.dtype) for name, p in model.named_parameters()},
        made=made[0, tokens.shape[1] :].tolist(),
        logits=logits[0].float().tolist(),
        **{
          key: [str(k) for k in info[key]]
          for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        },
      )
    )
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
