# SPDX-License-Identifier: Apache-2.0
"""Random models of FiLax, and the programs that the rows of the benchmark measure."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax.infer import decoding, generate
from filax.models import components
from filax.models.layers_apart import answering_params
from filax.models.video_lm import VideoLM
from filax.spec import RowShape
from filax.train import allocator, optim, state, step

# The layer of Qwen2-0.5B; each row chooses depth and vocabulary.
HALF_BILLION = dict(width=896, heads=14, kv_heads=2, head_dim=64, mlp=4864)
STD = 0.02


def text_model(dtype: str = "float32", positions: int = 262_144, **sizes: Any) -> VideoLM:
  """A VideoLM with a Qwen2.

  Its other components are tiny and are not used.
  """
  config = dict(
    encoder=dict(name="siglip", variant="tiny"),
    selector=dict(name="uniform", size=3),
    merger=dict(name="weighted"),
    projector=dict(name="mlp", newline="one_token", pool_side=1),
    llm=dict(name="qwen2", positions=positions, **sizes),
    dtype=dtype,
    param_dtype=dtype,
  )
  return components.build_video_lm(config)


def random_params(shapes: Any) -> Any:
  """Draws normal parameters on the device.

  The scales of norms are ones.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
  drawn = []
  for number, (path, leaf) in enumerate(leaves):
    if path[-1].key == "scale":
      drawn.append(jnp.ones(leaf.shape, leaf.dtype))
    else:
      drawn.append(_draw_leaf(jax.random.key(number), leaf.shape, leaf.dtype))
  return jax.tree_util.tree_unflatten(tree, drawn)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw_leaf(key, shape, dtype):
  return jax.random.normal(key, shape, dtype) * jnp.asarray(STD, dtype)


def llm_params(model: VideoLM) -> dict[str, Any]:
  """Random parameters of the llm, arranged for answers on this device."""
  params = dict(llm=random_params(components.parameter_shapes(model)["llm"]))
  return answering_params(params, free=True)


def timed_call(function: Callable[[], Any]) -> tuple[float, Any]:
  """(seconds, result) of a function that computes on the device."""
  start = time.perf_counter()
  result = jax.block_until_ready(function())
  return time.perf_counter() - start, result


def full_cache(model: VideoLM, params: Any, batch: int, context: int, spare: int) -> Any:
  """A cache with `context` random tokens per row, and `spare` free slots."""
  cache = model.apply({"params": params}, batch, (context + spare,), method="empty_cache")

  def drawn(leaf):
    return jax.random.normal(jax.random.key(0), leaf.shape, leaf.dtype)

  length = jnp.full((batch,), context, jnp.int32)
  return cache.replace(
    k=jax.tree.map(drawn, cache.k), v=jax.tree.map(drawn, cache.v), length=length
  )


def decode_from_cache(model: VideoLM, params: Any, cache: Any, tokens: int) -> float:
  """Seconds for decoding `tokens` greedy tokens per row, chunk by chunk.

  The cache cannot be used afterwards.
  """
  rows = cache.length.shape[0]
  limit = jnp.full((rows,), tokens, jnp.int32)
  state = dataclasses.replace(decoding.empty_decoding(cache, rows), limit=limit)
  jax.block_until_ready(state)
  settings = decoding.sampling_settings(model)
  llm_only = generate.language_model(model)
  label = f"{rows} x {cache.slots}"

  def decode_chunks():
    state_now = state
    for _ in range(math.ceil(tokens / decoding.STEPS)):
      ids, _, state_now = decoding.DECODE(
        label, llm_only, params, state_now, settings, steps=decoding.STEPS, greedy=True
      )
      jax.device_get(ids)  # A caller would read every chunk.
    return state_now

  seconds, _ = timed_call(decode_chunks)
  return seconds


def prefill_once(model: VideoLM, params: Any, length: int, batch: int) -> float:
  """Seconds for computing prompts of `length` tokens and filling a cache."""
  tokens = np.random.default_rng(0).integers(0, model.vocab, (batch, length), np.int32)
  lengths = np.full((batch,), length, np.int32)
  no_dropout = np.zeros((batch, 0, 1), np.int32)

  def run_prefill():
    return generate.PREFILL(
      f"{batch} x {length}",
      generate.language_model(model),
      params,
      tokens,
      lengths,
      None,
      None,
      no_dropout,
      room=(),
      spare=16,
    )

  seconds, _ = timed_call(run_prefill)
  return seconds


def text_batch(rows: int, length: int, vocab: int) -> dict[str, np.ndarray]:
  """A batch of full rows of text, all of it supervised."""
  row = RowShape(frames=0, images=0, length=length, segments=1).zeros(42)
  batch = {key: np.repeat(value[None], rows, axis=0) for key, value in row.items()}
  rng = np.random.default_rng(0)
  batch["tokens"] = rng.integers(0, vocab, (rows, length), np.int32)
  batch["targets"] = np.roll(batch["tokens"], -1, axis=1)
  batch["loss_mask"][:] = 1
  batch["segment_ids"][:] = 1
  batch["positions"][:] = np.arange(length)
  return batch


def optimizer_settings(rates: tuple = (("", 1e-4),)) -> dict[str, Any]:
  """config.optim of the training rows."""
  return dict(
    rates=rates,
    decay=(("", 0.0),),
    warmup=0.0,
    final=0.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    clip=1.0,
  )


class TrainingRun:
  """A compiled train step and its state."""

  def __init__(self, model: VideoLM, batch: Mapping[str, np.ndarray], chunk: int = 1024):
    allocator.keep_freed_memory()  # As a training run does.
    shapes = components.parameter_shapes(model)
    frozen = (("^llm/", 1e-4), ("", 0.0))
    optimizer = optim.make_optimizer(optimizer_settings(frozen), shapes, steps=1000)
    self._state = state.create_state(random_params(shapes), optimizer, 0)
    loss = step.make_loss(model, "token_mean", chunk)
    train_step = jax.jit(step.make_train_step(loss, optimizer), donate_argnums=0)
    self._batch = jax.device_put(dict(batch))
    start = time.perf_counter()
    self._step = train_step.lower(self._state, self._batch).compile()
    self.compile_seconds = time.perf_counter() - start

  def step(self) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    self._state, metrics = self._step(self._state, self._batch)
    jax.block_until_ready(metrics)
    return time.perf_counter() - start
