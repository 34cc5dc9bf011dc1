# SPDX-License-Identifier: Apache-2.0
"""Prefill: prompt tokens a second into a cache."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.decode import TORCH

VOCAB = 8192


def _filax(length: int, depth: int) -> Repetition:
  from benchmarks import models

  model = models.text_model(**models.HALF_BILLION, depth=depth, vocab=VOCAB)
  params = models.llm_params(model)
  return lambda: dict(seconds=models.prefill_once(model, params, length, 1), amount=length)


def _transformers(length: int, depth: int) -> Repetition:
  import torch

  from benchmarks import models, torch_models

  model = torch_models.qwen2(**models.HALF_BILLION, depth=depth, vocab=VOCAB)
  tokens = torch.randint(0, VOCAB, (1, length))

  @torch.no_grad()
  def read_prompt():
    seconds, _ = torch_models.timed_torch(
      lambda: model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    )
    return dict(seconds=seconds, amount=length)

  return read_prompt


ROWS = (
  BenchmarkRow(
    "prefill",
    "prefill, Qwen2-0.5B's layer, small vocabulary",
    "tokens/s",
    (Side(OURS, _filax), Side("transformers", _transformers, TORCH, threads=True)),
    shapes=(
      dict(length=1024, depth=2),
      dict(length=4096, depth=2),
      dict(length=8192, depth=2),
    ),
    full=(
      dict(length=1024, depth=6),
      dict(length=4096, depth=6),
      dict(length=16_384, depth=6),
      dict(length=32_768, depth=2),
    ),
    axis="length",
  ),
)
