# SPDX-License-Identifier: Apache-2.0
"""The llm's causal attention alone: tokens a second through one layer of Qwen2-0.5B's heads."""

import time

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side

HEADS, KV_HEADS, SIZE = 14, 2, 64
TORCH = (("torch", "torch"),)


def _filax(length: int, samples: int, backward: bool) -> Repetition:
  import jax
  import jax.numpy as jnp

  from filax.ops.attention import sequence_parallel

  attend = sequence_parallel.attend("auto", "gather", samples=samples)
  arrays = []
  for seed, heads in enumerate((HEADS, KV_HEADS, KV_HEADS)):
    arrays.append(jax.random.normal(jax.random.key(seed), (1, length, heads, SIZE)))
  place = jnp.arange(length)[None]
  at = (1 + place * samples // length, place)

  def total(q, k, v, at):
    return attend(q, k, v, at, at).sum()

  run = jax.jit(jax.grad(total, argnums=(0, 1, 2)) if backward else lambda *x: attend(*x, x[-1]))

  def once():
    start = time.perf_counter()
    jax.block_until_ready(run(*arrays, at))
    return dict(seconds=time.perf_counter() - start, amount=length)

  return once


def _torch(length: int, samples: int, backward: bool) -> Repetition:
  """PyTorch computes the samples one after the other."""
  import torch
  from torch.nn.functional import scaled_dot_product_attention

  lengths = [len(part) for part in torch.arange(length).tensor_split(samples)]
  rows = []
  for tokens in lengths:
    shapes = [(1, heads, tokens, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    rows.append([torch.randn(shape, requires_grad=backward) for shape in shapes])

  def once():
    start = time.perf_counter()
    for q, k, v in rows:
      out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
      if backward:
        torch.autograd.grad(out.sum(), (q, k, v))
    return dict(seconds=time.perf_counter() - start, amount=length)

  return once


SIDES = (Side(OURS, _filax), Side("torch sdpa", _torch, TORCH, threads=True))


def _shapes(backward: bool, *lengths: int) -> tuple[dict, ...]:
  return tuple(dict(length=length, samples=1, backward=backward) for length in lengths)


ROWS = (
  BenchmarkRow(
    "attention_forward",
    "causal attention of one layer, forward",
    "tokens/s",
    SIDES,
    shapes=_shapes(False, 1024, 4096),
    full=_shapes(False, 16_384, 32_768),
    axis="length",
  ),
  BenchmarkRow(
    "attention_backward",
    "causal attention of one layer, forward and backward",
    "tokens/s",
    SIDES,
    shapes=_shapes(True, 1024, 4096),
    full=_shapes(True, 16_384, 32_768),
    axis="length",
  ),
  BenchmarkRow(
    "attention_packed",
    "attention of one layer in rows of 8 samples, forward and backward",
    "tokens/s",
    SIDES,
    shapes=(dict(length=8192, samples=8, backward=True),),
    axis="length",
  ),
)
