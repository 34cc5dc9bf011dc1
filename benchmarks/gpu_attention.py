# SPDX-License-Identifier: Apache-2.0
"""Correctness and speed of the attention kernels on one GPU.

  python -m benchmarks.gpu_attention [--tiny] [--seconds 95] [--out attention.json]

First, every kernel and the one that "auto" selects are compared with dense attention in float32.
Then the time of a call is measured. If PyTorch is installed, its flash attention is measured, too.
Work that does not start within `--seconds` is reported as not measured. `--tiny` runs on any
machine. The program needs jax, numpy and filax/ops.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import types

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory, too.
if importlib.util.find_spec("jaxtyping") is None:
  # Without jaxtyping, a stand-in whose types accept any shape is enough: nothing is checked here.
  _type_names = "Array ArrayLike Bool Float Int Integer Num PyTree Shaped UInt".split()
  _any_shape = type("AnyShape", (), {"__class_getitem__": classmethod(lambda cls, _: cls)})
  sys.modules["jaxtyping"] = types.ModuleType("jaxtyping")
  sys.modules["jaxtyping"].__dict__.update(dict.fromkeys(_type_names, _any_shape))

import jax
import jax.numpy as jnp
import numpy as np

from filax.ops.attention import blockwise, choice, cudnn, dense, device, sequence_parallel

OUT_TOLERANCE = 2e-2  # Allowed difference of outputs of about 1, in bfloat16.
GRADIENT_TOLERANCE = 2e-2  # Allowed norm of the difference, relative to that of the gradient.
CALLS = 5
BACKWARD = 3.5  # FLOPs of forward and backward pass, relative to those of the forward pass.


@dataclasses.dataclass(frozen=True)
class Rows:
  """Packed rows: tokens of each sample, padded to `length`."""

  name: str
  length: int
  samples: tuple[tuple[int, ...], ...]

  @property
  def most(self) -> int:
    """The most samples in a row."""
    return max(map(len, self.samples))

  @property
  def at(self) -> tuple[jax.Array, jax.Array]:
    """(segment, place) of every token."""
    segment = np.zeros((len(self.samples), self.length), np.int32)
    for row, tokens in zip(segment, self.samples, strict=True):
      filled = np.repeat(np.arange(len(tokens)) + 1, tokens)
      row[: len(filled)] = filled
    place = np.broadcast_to(np.arange(self.length, dtype=np.int32), segment.shape)
    return jnp.asarray(segment), jnp.asarray(place)

  def flops(self, heads: int, size: int) -> float:
    """FLOPs of the forward pass, counting visible scores only."""
    squares = 0
    for row in self.samples:
      squares += sum(tokens**2 for tokens in row)
    return 2.0 * squares * heads * size


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The shapes of one run."""

  heads: int
  kv_heads: int
  size: int
  checked: tuple[Rows, ...]
  timed: tuple[Rows, ...]
  block: int  # Queries and keys of a tile of blockwise attention.
  other_blocks: tuple[int, ...]  # Further sizes, which are only timed.


GPU = Sizes(
  heads=28,
  kv_heads=4,
  size=128,
  checked=(
    Rows("one sample", 1003, ((1003,), (701,))),
    Rows("packed", 1003, ((301, 402, 203), (17, 950), (640,))),
  ),
  timed=(
    Rows("one sample", 8192, ((8192,),)),
    Rows("packed", 8192, ((1024,) * 4 + (2048, 1900),)),
    Rows("one sample", 32_768, ((32_768,),)),
    Rows("packed", 32_768, ((4096,) * 6 + (8000,),)),
  ),
  block=1024,
  other_blocks=(512, 2048),
)
TINY = Sizes(
  heads=4,
  kv_heads=2,
  size=8,
  checked=(
    Rows("one sample", 37, ((37,), (20,))),
    Rows("packed", 37, ((11, 9, 8), (3, 30), (25,))),
  ),
  timed=(Rows("one sample", 64, ((64,),)), Rows("packed", 64, ((30, 20),))),
  block=16,
  other_blocks=(),
)


def kernels(sizes: Sizes, rows: Rows) -> Iterator[tuple[str, Callable]]:
  """(name, attend) of every kernel that computes these rows on this device."""
  if jax.default_backend() == "gpu":
    if rows.most == 1:
      yield "cudnn_causal", cudnn.causal
      yield "cudnn_causal without lengths", causal_without_lengths
    yield "cudnn_packed", functools.partial(cudnn.packed, samples=max(rows.most, 2))
  yield blockwise_of(sizes.block)


def blockwise_of(block: int) -> tuple[str, Callable]:
  """(name, attend) of blockwise attention with tiles of one size."""
  return f"blockwise {block}", functools.partial(blockwise.blockwise, block=block)


def causal_without_lengths(q, k, v, q_at, kv_at):
  """cuDNN's causal attention without row lengths; it treats padding as tokens."""
  return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")


def draw_rows(sizes: Sizes, rows: Rows) -> tuple[jax.Array, ...]:
  """Random q, k, v and a cotangent in bfloat16.

  The cotangent is zero at padding.
  """
  heads_of_arrays = (sizes.heads, sizes.kv_heads, sizes.kv_heads, sizes.heads)
  arrays = []
  for seed, heads in enumerate(heads_of_arrays):
    shape = (len(rows.samples), rows.length, heads, sizes.size)
    arrays.append(jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16))
  q, k, v, cotangent = arrays
  segment, _ = rows.at
  is_real = (segment != 0)[:, :, None, None]
  return q, k, v, jnp.where(is_real, cotangent, 0)


def with_gradients(attend: Callable, at):
  """Compiles forward and backward pass.

  (q, k, v, cotangent) -> (out, d_q, d_k, d_v).
  """

  def attend_to_row(q, k, v):
    return attend(q, k, v, at, at)

  def forward_and_backward(q, k, v, cotangent):
    out, backward = jax.vjp(attend_to_row, q, k, v)
    return out, *backward(cotangent.astype(out.dtype))

  return jax.jit(forward_and_backward)


def check(sizes: Sizes, rows: Rows) -> Iterator[dict]:
  """Compares every kernel with float32 dense attention.

  Padding is not compared.
  """
  arrays = draw_rows(sizes, rows)
  exact = [x.astype(jnp.float32) for x in arrays]
  with jax.default_matmul_precision("highest"):
    expected = with_gradients(dense.dense, rows.at)(*exact)
  real = np.asarray(rows.at[0] != 0)
  auto = sequence_parallel.attend("auto", "gather", samples=rows.most)
  for name, attend in [("auto", auto), *kernels(sizes, rows)]:
    row = dict(kind="check", rows=rows.name, kernel=name)
    try:
      values = with_gradients(attend, rows.at)(*arrays)
      yield row | differences(values, expected, real)
    except Exception as error:  # A kernel may refuse these rows; the others are still checked.
      yield row | dict(passed=False, error=f"{type(error).__name__}: {error}"[:300])


def differences(values, expected, real) -> dict:
  """The errors of output and gradients, and whether they are small."""
  out, *gradients = (np.asarray(x, np.float32) for x in values)
  expected_out, *expected_gradients = (np.asarray(x) for x in expected)
  out_error = float(np.abs(out - expected_out)[real].max())
  errors = []
  for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
    difference = np.linalg.norm((gradient - expected_gradient)[real])
    norm = np.linalg.norm(expected_gradient[real])
    errors.append(float(difference / norm))
  finite = all(np.isfinite(x).all() for x in (out, *gradients))
  passed = out_error <= OUT_TOLERANCE and max(errors) <= GRADIENT_TOLERANCE and finite
  return dict(out=out_error, gradients=errors, finite=finite, passed=bool(passed))


def milliseconds(run: Callable, wait: Callable, calls: int = CALLS) -> float:
  """The median time of a call.

  A first call, which compiles, is not timed.
  """
  wait(run())
  times = []
  for _ in range(calls):
    start = time.perf_counter()
    wait(run())
    times.append(time.perf_counter() - start)
  return 1e3 * statistics.median(times)


def measure(sizes: Sizes, rows: Rows, named: Iterable, until: float) -> Iterator[dict]:
  """Times kernels: the forward pass, and forward and backward pass together."""
  arrays = draw_rows(sizes, rows)
  for name, attend in named:
    forward = jax.jit(functools.partial(attend, q_at=rows.at, kv_at=rows.at))
    both = with_gradients(attend, rows.at)
    yield timed_row(sizes, rows, name, "forward", 1.0, forward, arrays[:3], until)
    yield timed_row(sizes, rows, name, "forward + backward", BACKWARD, both, arrays, until)


def timed_row(sizes, rows, name, work, products, run, arrays, until) -> dict:
  """One row of the table of times."""
  row = dict(kind="time", rows=rows.name, length=rows.length, kernel=name, work=work)
  if time.monotonic() > until:
    return row | dict(error="not measured: out of time")
  try:
    spent = milliseconds(lambda: run(*arrays), jax.block_until_ready)
  except Exception as error:  # A kernel may refuse; the others still count.
    return row | dict(error=f"{type(error).__name__}: {error}"[:300])
  return row | rates(spent, products * rows.flops(sizes.heads, sizes.size))


def rates(spent: float, flops: float) -> dict:
  return dict(ms=round(spent, 3), tflops=round(flops / spent / 1e9, 1))


def measure_torch(sizes: Sizes, rows: Rows) -> Iterator[dict]:
  """The same times for PyTorch's flash attention."""
  import torch
  from torch.nn import attention
  from torch.nn.functional import scaled_dot_product_attention

  place = "cuda" if torch.cuda.is_available() else "cpu"
  arrays = []
  for heads in (sizes.heads, sizes.kv_heads, sizes.kv_heads):
    shape = (1, heads, rows.length, sizes.size)
    array = torch.randn(shape, dtype=torch.bfloat16, device=place)
    arrays.append(array.requires_grad_())
  cotangent = torch.randn_like(arrays[0])

  def forward():
    q, k, v = arrays
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

  def both():
    return torch.autograd.grad(forward(), arrays, cotangent)

  def without_gradients():
    with torch.no_grad():
      return forward()

  def synchronize(_):
    if place == "cuda":
      torch.cuda.synchronize()

  row = dict(kind="time", rows=rows.name, length=rows.length, kernel="torch flash")
  flops = rows.flops(sizes.heads, sizes.size)
  with attention.sdpa_kernel(attention.SDPBackend.FLASH_ATTENTION):
    spent = milliseconds(without_gradients, synchronize)
    yield row | dict(work="forward") | rates(spent, flops)
    spent = milliseconds(both, synchronize)
    yield row | dict(work="forward + backward") | rates(spent, BACKWARD * flops)


def selected(sizes: Sizes, rows: Rows) -> dict:
  """The kernel that "auto" selects for these rows."""
  layout = choice.Layout(queries=rows.length, keys=rows.length, samples=rows.most)
  name = choice.choose(device.device_in_use(), "bfloat16", sizes.size, layout)
  return dict(kind="auto", rows=rows.name, length=rows.length, kernel=name)


def run_torch(tiny: bool) -> Iterator[dict]:
  """Times PyTorch in a process of its own."""
  if importlib.util.find_spec("torch") is None:
    yield dict(kind="note", error="PyTorch is not installed: pip install torch")
    return
  command = [sys.executable, "-m", "benchmarks.gpu_attention", "--torch"]
  if tiny:
    command.append("--tiny")
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    yield dict(kind="note", error=f"PyTorch failed: {done.stderr[-300:]}")
    return
  yield from map(json.loads, done.stdout.splitlines())


def all_rows(sizes: Sizes, until: float, tiny: bool) -> Iterator[dict]:
  """Yields every result: first the checks, then the times."""
  chip = jax.devices()[0]
  yield dict(kind="device", device=chip.device_kind, platform=chip.platform, jax=jax.__version__)
  for rows in (*sizes.checked, *sizes.timed):
    yield selected(sizes, rows)
  for rows in sizes.checked:
    yield from check(sizes, rows)
  yield from run_torch(tiny)
  for rows in sizes.timed:
    yield from measure(sizes, rows, kernels(sizes, rows), until)
  others = map(blockwise_of, sizes.other_blocks)
  yield from measure(sizes, sizes.timed[0], others, until)


def main(argv: list[str] | None = None) -> int:
  """Prints one JSON object per line; returns 1 if "auto" is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tiny", action="store_true", help="small shapes, on any machine")
  parser.add_argument("--seconds", type=float, default=95, help="start nothing after this time")
  parser.add_argument("--out", default="", help="also write a list of all rows to this JSON file")
  parser.add_argument("--torch", action="store_true", help="measure PyTorch alone")
  flags = parser.parse_args(argv)
  sizes = TINY if flags.tiny else GPU
  until = time.monotonic() + flags.seconds
  results: list[dict] = []
  if flags.torch:
    for rows in sizes.timed:
      if rows.most == 1:
        results.extend(measure_torch(sizes, rows))
    print("\n".join(map(json.dumps, results)))
    return 0
  for row in all_rows(sizes, until, flags.tiny):
    print(json.dumps(row), flush=True)
    results.append(row)
  if flags.out:
    with open(flags.out, "w") as file:
      json.dump(results, file, indent=1)
  wrong = [row for row in results if row["kind"] == "check" and not row["passed"]]
  return int(any(row["kernel"] == "auto" for row in wrong))


if __name__ == "__main__":
  sys.exit(main())
