# SPDX-License-Identifier: Apache-2.0
"""Greedy text equals that of transformers' generate on random tiny Qwen2 models."""

import hf_qwen2
import numpy as np
import pytest
import small_checkpoint
import torch

from filax.build import build_video_lm
from filax.infer.generate import generate

NEW = 20


@pytest.mark.parametrize("case", [dict(), dict(tied=True, yarn=(4.0, 64)), dict(kv_heads=1)])
def test_greedy_text_equals_transformers(case):
  theirs, llm, params = hf_qwen2.pair(seed=2, **case)
  model = build_video_lm(small_checkpoint.config()["model"]).clone(llm=llm)
  rng = np.random.default_rng(0)
  prompts = [rng.integers(1, llm.vocab, n) for n in (23, 6, 40)]
  with torch.no_grad():
    want = [
      theirs.generate(
        torch.tensor(prompt)[None], max_new_tokens=NEW, do_sample=False, pad_token_id=0,
        eos_token_id=None)[0, len(prompt):].tolist()
      for prompt in prompts]
  made = generate(
    model, {"llm": params}, [p.tolist() for p in prompts], max_new_tokens=NEW, lengths=(64,))
  assert made.tokens == want
  assert len({*want[0], *want[1], *want[2]}) > 10  # The models do not just repeat themselves.


def test_a_stop_id_ends_the_text_where_theirs_ends():
  theirs, llm, params = hf_qwen2.pair(seed=2)
  model = build_video_lm(small_checkpoint.config()["model"]).clone(llm=llm)
  prompt = np.random.default_rng(0).integers(1, llm.vocab, 23)
  free = generate(
    model, {"llm": params}, [prompt.tolist()], max_new_tokens=NEW, lengths=(64,)).tokens[0]
  stop = free[5]
  with torch.no_grad():
    want = theirs.generate(
      torch.tensor(prompt)[None], max_new_tokens=NEW, do_sample=False, pad_token_id=0,
      eos_token_id=stop)[0, len(prompt):].tolist()
  made = generate(
    model, {"llm": params}, [prompt.tolist()], max_new_tokens=NEW, stop=[stop], lengths=(64,))
  assert want == [*made.tokens[0], stop] and made.stopped == [True]
