# SPDX-License-Identifier: Apache-2.0
"""The figures of FiLax on a GPU, in bfloat16."""

from collections.abc import Mapping
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import models
from benchmarks.gpu_work import MEMORY_SHARE, REMAT, measure_work
from filax.infer import generate
from filax.models import components
from filax.models.layers_apart import answering_params
from filax.models.selectors.kmeans import KMeans
from filax.ops import tome

DTYPE = "bfloat16"


def measure_llm(sizes: Mapping[str, Any]) -> None:
  """Prefill and decoding of the llm."""
  model = models.text_model(DTYPE, **sizes["llm"])
  params = models.llm_params(model)
  for length in sizes["prefill"]:
    run = functools.partial(models.prefill_once, model, params, length, 1)
    measure_work(f"prefill {length}", "tokens/s", length, lambda run=run: run)
  tokens = sizes["tokens"]
  for context, batch in sizes["decode"]:

    def decode_batch(context=context, batch=batch):
      cache = models.full_cache(model, params, batch, context, tokens)
      return models.decode_from_cache(model, params, cache, tokens)

    work = f"decode after {context}, batch {batch}"
    measure_work(work, "tokens/s", batch * tokens, lambda decode_batch=decode_batch: decode_batch)


def measure_training(sizes: Mapping[str, Any]) -> None:
  """A train step of each model that fits."""
  stats = jax.local_devices()[0].memory_stats() or {}
  gib = stats.get("bytes_limit", 0) / MEMORY_SHARE / 2**30
  for train in sizes["train"]:
    if gib < train["gib"]:
      continue

    def prepare_training(llm=train["llm"], length=train["tokens"]):
      model = models.text_model(DTYPE, remat=REMAT, **llm)
      return models.TrainingRun(model, models.text_batch(1, length, llm["vocab"])).step

    length = train["tokens"]
    work = f"train step {train['name']}, {length} tokens"
    measure_work(work, "tokens/s", length, prepare_training)


def measure_vision(sizes: Mapping[str, Any]) -> None:
  """Encoders, token merging and K-Means."""
  siglip = sizes["siglip"]
  measure_work(
    f"siglip {siglip['variant']}, {siglip['batch']} pictures",
    "pictures/s",
    siglip["batch"],
    lambda: _encoder("siglip", clip=1, **siglip),
  )
  for umt in sizes["umt"]:
    measure_work(
      f"umt {umt['variant']}, {umt['batch']} clips",
      "clips/s",
      umt["batch"],
      lambda umt=umt: _encoder("umt", clip=4, **umt),
    )
  for clips, tokens, target in sizes["tome"]:
    measure_work(
      f"tome {tokens} to {target}, {clips} clips",
      "clips/s",
      clips,
      functools.partial(_token_merging, clips, tokens, target),
    )
  frames = sizes["kmeans"]
  measure_work(f"kmeans {frames} frames", "frames/s", frames, lambda: _scene_selection(frames))


def _encoder(name: str, variant: str, layers: int, batch: int, clip: int):
  config = dict(name=name, variant=variant, depth=layers, dtype=DTYPE, param_dtype=DTYPE)
  encoder = components.build("encoder", config)
  frames = jnp.zeros((batch, clip, encoder.size, encoder.size, 3), jnp.uint8)
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), frames[:1])
  params = models.random_params(shapes["params"])
  encode = jax.jit(lambda params, frames: encoder.apply({"params": params}, frames))
  return lambda: models.timed_call(lambda: encode(params, frames))[0]


def _token_merging(clips: int, tokens: int, target: int):
  x = jax.random.normal(jax.random.key(0), (clips, tokens, 1024), jnp.bfloat16)
  merge = jax.jit(lambda x: tome.merge_clips(x, target))
  return lambda: models.timed_call(lambda: merge(x))[0]


def _scene_selection(frames: int):
  x = jax.random.normal(jax.random.key(0), (frames, 1152))
  mask = jnp.ones(frames, bool)
  select = jax.jit(KMeans(scenes=32, steps=100).pick)
  return lambda: models.timed_call(lambda: select(x, mask))[0]


def measure_answer(sizes: Mapping[str, Any]) -> None:
  """A question about a long video, whose frames are in memory."""
  answer = sizes["answer"]
  frames = answer["frames"]
  question = VideoQuestion(sizes["llm"], **answer)
  work = f"answer about {frames} frames"
  measure_work(work, "frames/s", frames, lambda: question.answer_once)


class VideoQuestion:
  """A VideoChat-Flash with random weights, and a video in the host's memory."""

  def __init__(self, llm: Mapping[str, Any], encoder: str, frames: int, part: int, tokens: int):
    config = dict(
      encoder=dict(name="umt", variant=encoder),
      selector=dict(name="clips", size=4),
      merger=dict(name="tome", tokens=16, heads=4 if encoder == "tiny" else 16),
      projector=dict(name="mlp", newline="none", pool_side=1),
      llm=dict(name="qwen2", positions=131_072, **llm),
      encode_chunk=part // 4,
      dtype=DTYPE,
      param_dtype=DTYPE,
    )
    self._model = components.build_video_lm(config)
    params = models.random_params(components.parameter_shapes(self._model))
    self._params = answering_params(params, free=True)
    side = self._model.encoder.size
    rng = np.random.default_rng(0)
    self._frames = rng.integers(0, 256, (frames, side, side, 3), np.uint8)
    self._part = part
    self._new_tokens = tokens
    self._embed = jax.jit(self._embed_part)

  def _embed_part(self, params, frames):
    side = self._model.encoder.size
    mask = jnp.ones(frames.shape[:2], bool)
    no_images = jnp.zeros((1, 0, side, side, 3), jnp.uint8)
    visual = self._model.apply({"params": params}, frames, mask, no_images, method="embed")
    return visual.table[0, :-1]  # Without the newline.

  def answer_once(self) -> dict[str, float]:
    """Seconds of a question: in all, and of its phases."""
    start = time.perf_counter()
    parts = []
    for first in range(0, len(self._frames), self._part):
      frames = self._frames[None, first : first + self._part]
      parts.append(self._embed(self._params, frames))
    table = jax.block_until_ready(jnp.concatenate(parts))
    encoded = time.perf_counter()
    words = 40
    prompt = np.arange(words + len(table)) % 500
    index = np.full(len(prompt), -1, np.int32)
    index[10 : 10 + len(table)] = np.arange(len(table))
    generated = generate.generate(
      self._model,
      self._params,
      [prompt.tolist()],
      table=table[None],
      visual_index=[index],
      max_new_tokens=self._new_tokens,
    )
    end = time.perf_counter()
    return dict(
      seconds=end - start,
      encode_s=encoded - start,
      prefill_s=generated.prefill_seconds,
      decode_s=generated.decode_seconds,
      visual_tokens=len(table),
    )


GROUPS = dict(llm=measure_llm, train=measure_training, vision=measure_vision, answer=measure_answer)
