# SPDX-License-Identifier: Apache-2.0
"""Decoding: tokens a second after a context, greedy, one token a step."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side

TOKENS = 16
TORCH = (("torch", "torch"), ("transformers", "transformers"))
VOCABULARIES = dict(tied=(151_936, True), untied=(152_064, False), small=(8192, False))


def _sizes(depth: int, head: str) -> dict:
  vocab, tied = VOCABULARIES[head]
  return dict(depth=depth, vocab=vocab, tied=tied)


def _filax(context: int, batch: int, depth: int, head: str) -> Repetition:
  from benchmarks import models

  model = models.text_model(**models.HALF_BILLION, **_sizes(depth, head))
  params = models.llm_params(model)

  def decode_round():
    cache = models.full_cache(model, params, batch, context, TOKENS)
    seconds = models.decode_from_cache(model, params, cache, TOKENS)
    return dict(seconds=seconds, amount=batch * TOKENS)

  return decode_round


def _transformers(context: int, batch: int, depth: int, head: str) -> Repetition:
  from benchmarks import models, torch_models

  model = torch_models.qwen2(**models.HALF_BILLION, **_sizes(depth, head))

  def decode_round():
    cache = torch_models.filled_cache(model, batch, context)
    seconds = torch_models.decode_greedily(model, cache, batch, TOKENS, "cpu")
    return dict(seconds=seconds, amount=batch * TOKENS)

  return decode_round


SIDES = (Side(OURS, _filax), Side("transformers", _transformers, TORCH, threads=True))

ROWS = (
  BenchmarkRow(
    "decode_head",
    "decode, 1 layer and the head of Qwen2-0.5B's sizes",
    "tokens/s",
    SIDES,
    shapes=(
      dict(context=512, batch=1, depth=1, head="tied"),
      dict(context=512, batch=1, depth=1, head="untied"),
      dict(context=512, batch=8, depth=1, head="tied"),
    ),
  ),
  BenchmarkRow(
    "decode_context",
    "decode, 6 layers of Qwen2-0.5B, small vocabulary",
    "tokens/s",
    SIDES,
    shapes=(
      dict(context=1024, batch=1, depth=6, head="small"),
      dict(context=4096, batch=1, depth=6, head="small"),
      dict(context=16_384, batch=1, depth=6, head="small"),
      dict(context=1024, batch=8, depth=6, head="small"),
    ),
    full=(
      dict(context=4096, batch=8, depth=6, head="small"),
      dict(context=16_384, batch=8, depth=6, head="small"),
      dict(context=32_768, batch=1, depth=6, head="small"),
    ),
    axis="context",
  ),
)
