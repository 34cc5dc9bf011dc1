# SPDX-License-Identifier: Apache-2.0
"""What a decoded token touches in a GPU's memory, counted on a machine that has no GPU.

  pip install 'filax[gpu]'                         # XLA's compiler for CUDA; Python 3.12 or newer.
  python -m benchmarks.gpu_decode                  # Qwen2-7B, 8 rows after 32,768 tokens.
  python -m benchmarks.gpu_decode --rows 1 --context 8192 --depth 4
  python -m benchmarks.gpu_decode --arrange stacked

Compiles a chunk of decoding for an H100 and counts the bytes that its loop reads and writes. The
least is that of the weights and of the cache, each read once. Kernels are not tuned: that needs a
GPU.
"""

import argparse
from collections.abc import Sequence
import functools
import sys
import time
from typing import Any

import jax
from jax.experimental import topologies

from benchmarks import gpu_compile, gpu_work, models
from filax.infer import decoding
from filax.infer.generate import language_model
from filax.models.components import parameter_shapes
from filax.models.layers_apart import layers_apart
from filax.plan.traffic import loop_bytes

TILE = 128  # A cache on a GPU has whole tiles (filax.models.layer_cache).


def compile_decoding(rows: int, slots: int, depth: int, arrange: str) -> dict[str, float]:
  """Compiles a chunk of decoding of a 7B with `depth` layers.

  Returns the bytes that a token touches, those of weights and cache, and seconds.
  """
  jax.devices("cpu")  # Registers the plugin.
  topology = topologies.get_topology_desc(
    platform="cuda", topology_name="h100", topology="1x1x1", target_config=gpu_compile.H100
  )
  model = models.text_model("bfloat16", **gpu_work.SIZES["full"]["llm"] | dict(depth=depth))
  params: dict[str, Any] = dict(llm=parameter_shapes(model)["llm"])
  if arrange == "apart":
    params = jax.eval_shape(layers_apart, params)
  llm = language_model(model)
  arguments = decoding.decode_arguments(llm, params, rows, (slots,))
  place = functools.partial(_placed, jax.sharding.SingleDeviceSharding(topology.devices[0]))
  run = jax.jit(
    decoding.decode_chunk,
    static_argnums=0,
    static_argnames=("steps", "greedy"),
    donate_argnums=2,
  )
  began = time.perf_counter()
  lowered = run.lower(llm, *jax.tree.map(place, arguments), steps=decoding.STEPS, greedy=True)
  text = lowered.compile().as_text()
  weights = _bytes_of(params) - _bytes_of(params["llm"]["embed_tokens"])  # One row of it is read.
  cache = _bytes_of(arguments[1].cache)
  seconds = time.perf_counter() - began
  return dict(touched=loop_bytes(text), weights=weights, cache=cache, seconds=seconds)


def _placed(sharding: jax.sharding.Sharding, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _bytes_of(tree: Any) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def main(argv: Sequence[str] | None = None) -> int:
  """Compiles from the command line; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.gpu_decode",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--rows", type=int, default=8, help="answers at a time")
  parser.add_argument("--context", type=int, default=32_768, help="tokens of each prompt")
  parser.add_argument("--depth", type=int, default=28, help="layers; fewer compile faster")
  parser.add_argument("--arrange", choices=("apart", "stacked"), default="apart")
  args = parser.parse_args(argv)
  if not gpu_compile.has_compiler():
    print(gpu_compile.NO_COMPILER, file=sys.stderr)
    return 2
  slots = -(-(args.context + decoding.STEPS) // TILE) * TILE
  figures = compile_decoding(args.rows, slots, args.depth, args.arrange)
  print(
    f"{args.rows} rows of {slots} places, {args.depth} layers {args.arrange}: a token touches "
    f"{figures['touched'] / 1e9:.1f} GB; weights {figures['weights'] / 1e9:.1f} GB, cache "
    f"{figures['cache'] / 1e9:.1f} GB; compiled in {figures['seconds']:.0f} s"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
