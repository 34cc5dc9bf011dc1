# SPDX-License-Identifier: Apache-2.0
"""Greedy text equals that of transformers' generate on random tiny Qwen2 models."""

import hf_qwen2
import numpy as np
import pytest
import torch

from filax.infer.generate import generate
from filax.models.components import build_video_lm
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

NEW = 20


@pytest.mark.parametrize("case", [dict(), dict(tied=True, yarn=(4.0, 64)), dict(kv_heads=1)])
def test_greedy_text_equals_transformers(case):
  theirs, llm, params = hf_qwen2.pair(seed=2, **case)
  model = build_video_lm(tiny_checkpoint.tiny_config()["model"]).clone(llm=llm)
  rng = np.random.default_rng(0)
  prompts = [rng.integers(1, llm.vocab, n).tolist() for n in (23, 6, 40)]

  def ours(stop):
    return generate(model, {"llm": params}, prompts, max_new_tokens=NEW, stop=[stop], lengths=(64,))

  want = [continued(theirs, prompt) for prompt in prompts]
  assert ours(10**6).tokens == want
  assert len({*want[0], *want[1], *want[2]}) > 10  # The models do not just repeat themselves.
  stop = want[0][5]  # A stop id ends the text where it ends theirs.
  made = ours(stop)
  for prompt, tokens, stopped in zip(prompts, made.tokens, made.stopped, strict=True):
    assert [*tokens, *[stop] * stopped] == continued(theirs, prompt, stop)
  assert made.stopped[0]


def continued(model, prompt, stop=None) -> list[int]:
  """Greedy tokens of transformers."""
  with torch.no_grad():
    out = model.generate(
      torch.tensor(prompt)[None],
      max_new_tokens=NEW,
      do_sample=False,
      pad_token_id=0,
      eos_token_id=stop,
    )
  return out[0, len(prompt) :].tolist()
