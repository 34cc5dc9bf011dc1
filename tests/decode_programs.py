# SPDX-License-Identifier: Apache-2.0
"""Compiles a chunk of decoding and prints what a token of it touches, as JSON.

  python tests/decode_programs.py '{"platform": "cpu", "tied": true, "rows": 1, "slots": 1280}'

A process of its own, because the tests' XLA_FLAGS compile quickly instead of well, and libtpu reads
its settings when it starts.
"""

import json
import sys

import jax

from filax.infer import decoding
from filax.infer.generate import language_model
from filax.models.components import build_video_lm, parameter_shapes
from filax.models.layers_apart import layers_apart
from filax.plan.topology import parse_topology
from filax.plan.traffic import loop_bytes
from filax.testing import tiny_checkpoint

HALF_BILLION = dict(
  name="qwen2", width=896, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=151_936
)


def main(tied: bool, rows: int, slots: int, platform: str) -> None:
  """Prints bytes: touched by a token, of weights, cache, scores, logits and temporaries."""
  depth, dtype = (2, "float32") if platform == "cpu" else (24, "bfloat16")
  config = tiny_checkpoint.tiny_config()["model"]
  config["llm"] = HALF_BILLION | dict(depth=depth, tied=tied, dtype=dtype, param_dtype=dtype)
  model = build_video_lm(config)
  params = dict(llm=parameter_shapes(model)["llm"])
  if platform == "cpu":
    params = jax.eval_shape(layers_apart, params)
  arguments = decoding.decode_arguments(language_model(model), params, rows, (slots,))
  if platform != "cpu":
    device = parse_topology(platform).devices()[0]
    arguments = jax.tree.map(placed_on(device), arguments)
  program = compile_chunk(language_model(model), arguments)
  weights = total_bytes(params)
  if not tied:
    weights -= total_bytes(params["llm"]["embed_tokens"])  # One row of it is read.
  figures = dict(
    touched=loop_bytes(program.as_text()),
    weights=weights,
    cache=total_bytes(arguments[1].cache),
    scores=4 * depth * rows * model.llm.heads * slots,
    logits=4 * rows * model.llm.vocab_rows,
    temporary=program.memory_analysis().temp_size_in_bytes,
  )
  print(json.dumps(figures))


def placed_on(device: jax.Device):
  """A function that gives a shape its device."""
  sharding = jax.sharding.SingleDeviceSharding(device)
  return lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def compile_chunk(model, arguments) -> jax.stages.Compiled:
  """The program of a chunk."""
  run = jax.jit(
    decoding.decode_chunk,
    static_argnums=0,
    static_argnames=("steps", "greedy"),
    donate_argnums=2,
  )
  return run.lower(model, *arguments, steps=decoding.STEPS, greedy=True).compile()


def total_bytes(tree) -> int:
  """Bytes of all arrays of a tree."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
  main(**json.loads(sys.argv[1]))
