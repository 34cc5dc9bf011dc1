# SPDX-License-Identifier: Apache-2.0
"""Bytes that decoding a token touches, counted in the compiled program of a chunk.

Of Qwen2-0.5B's widths and vocabulary. The weights and the cache are read once: nothing copies,
slices or transposes the table of embeddings, a layer's weights, or the cache.
"""

import importlib.util

import jax
import pytest

from filax.infer import decoding
from filax.infer.generate import language_model
from filax.models.components import build_video_lm, parameter_shapes
from filax.models.layers_apart import layers_apart
from filax.plan.topology import parse_topology
from filax.plan.traffic import loop_bytes
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

VOCABULARY = 151_936
HEADS = 14
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="pip install 'filax[tpu]'"
)


def build(depth, tied, dtype, **changes):
  """(the language model, shapes of its parameters)."""
  config = tiny_checkpoint.tiny_config()["model"]
  config["llm"] = dict(
    name="qwen2",
    width=896,
    depth=depth,
    heads=HEADS,
    kv_heads=2,
    head_dim=64,
    mlp=4864,
    vocab=VOCABULARY,
    tied=tied,
    dtype=dtype,
    param_dtype=dtype,
  )
  config["llm"] |= changes
  model = build_video_lm(config)
  return language_model(model), dict(llm=parameter_shapes(model)["llm"])


def compile_chunk(model, arguments):
  """The program of a chunk of 8 tokens."""
  run = jax.jit(
    decoding.decode_chunk,
    static_argnums=0,
    static_argnames=("steps", "greedy"),
    donate_argnums=2,
  )
  return run.lower(model, *arguments, steps=8, greedy=True).compile()


def sizes(params, state):
  """(bytes of the weights that a token reads, bytes of the cache)."""
  weights = total_bytes(params)
  if "lm_head" in params["llm"]:
    weights -= total_bytes(params["llm"]["embed_tokens"])  # One row of it is read.
  return weights, total_bytes(state.cache)


def total_bytes(tree):
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  "tied, rows, slots", [(True, 1, 16_384), (False, 1, 1280), (True, 8, 1280)]
)
def test_a_cpu_reads_weights_and_cache_once(tied, rows, slots):
  """Beside them it passes scores and logits, which stay in its caches, a few times."""
  model, params = build(2, tied, "float32")
  params = jax.eval_shape(layers_apart, params)
  arguments = decoding.decode_arguments(model, params, rows, (slots,))
  program = compile_chunk(model, arguments)
  weights, cache = sizes(params, arguments[1])
  scores = 4 * model.llm.depth * rows * HEADS * slots
  logits = 4 * rows * model.llm.vocab_rows
  bound = weights + 1.1 * cache + 6 * scores + 8 * logits
  assert weights + cache < loop_bytes(program.as_text()) < bound
  assert program.memory_analysis().temp_size_in_bytes < 0.1 * cache + 16 * logits


@needs_libtpu
@pytest.mark.parametrize("tied, slots", [(True, 16_384), (False, 32_768)])
def test_a_v5e_reads_weights_and_cache_once(tied, slots):
  model, params = build(24, tied, "bfloat16")
  device = parse_topology("v5e:2x2").devices()[0]
  sharding = jax.sharding.SingleDeviceSharding(device)

  def placed(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  arguments = decoding.decode_arguments(model, params, 1, (slots,))
  program = compile_chunk(model, jax.tree.map(placed, arguments))
  weights, cache = sizes(params, arguments[1])
  assert weights + cache < 1.01 * loop_bytes(program.as_text())
  assert loop_bytes(program.as_text()) < weights + 1.1 * cache
  assert program.memory_analysis().temp_size_in_bytes < 0.1 * cache
