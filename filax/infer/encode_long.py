# SPDX-License-Identifier: Apache-2.0
"""Decodes and encodes long videos part by part.

Only merged tokens stay in memory. This works for selectors that group neighbouring frames. A
selector that chooses scenes needs all frames at once.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
from typing import Any
import weakref

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

from data_pipelines.media import frames as media_frames
from data_pipelines.media import open as media_lib
from data_pipelines.npy_content import read_npz
from data_pipelines.packing import frame_sampling, visual_order
from data_pipelines.sample import Timeline
from data_pipelines.text import templates
from filax import files
from filax.infer import encode
from filax.infer.encoded_media import EncodedMedia
from filax.infer.generate import context_length, unstretched_positions
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo, count_frames, frame_unit, timeline_extent
from filax.models.layers_apart import stacked_leaves
from filax.models.video_lm import VideoLM

LONG_BYTES = 1 << 30  # An evaluation encodes a video with more bytes of frames part by part.
PART = 128  # About this number of frames is decoded and encoded at a time.

_WEIGHTS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # Model -> digests.


def can_stream(model: VideoLM) -> bool:
  """Whether the parts of a video can be encoded separately.

  They can if groups consist of neighbouring frames.
  """
  return not model.selector.needs_single


def encode_timeline(
  loaded: LoadedModel, timeline: Timeline, folder: str | os.PathLike = ""
) -> tuple[DecodedVideo, EncodedMedia]:
  """Decodes and encodes a video, sampled as config.infer.sampling says.

  The returned video has times but no frames. folder: caches the merged tokens under a hash of their
  inputs; "" means no cache. Raises MediaError if the media cannot be read, and ValueError if the
  video has more frames than the context of the model holds.
  """
  model = loaded.model
  sampling = loaded.processor.sampling
  layout = model.layout()
  extent = timeline_extent(timeline, loaded.processor.limits, sampling)
  count = count_frames(sampling, extent, frame_unit(model))
  tokens = visual_order.video_order(count // layout.frames_per_group, layout)
  _check_context(model, count, len(tokens))
  times = frame_sampling.sample_times(sampling, count, extent)
  source = frame_sampling.readable(timeline, sampling)
  table, real_times = encode_times(loaded, source, times, folder)
  (no_frames,) = encode.no_pictures(layout.size)
  video = DecodedVideo(no_frames, real_times, extent.duration, timeline[0].media)
  return video, _encoded_media(model, table, real_times, extent.duration)


def encode_decoded(loaded: LoadedModel, video: DecodedVideo) -> EncodedMedia:
  """Encodes a decoded video, part by part if groups are neighbouring frames.

  The tokens are those of `encode_timeline`. Raises ValueError as encode.encode_video does.
  """
  model = loaded.model
  if not can_stream(model):
    return encode.encode_video(loaded, video)
  encode.check_video(model, video)
  part = part_length(model, len(video.frames))
  parts = (video.frames[first : first + part] for first in range(0, len(video.frames), part))
  table = encode_parts(loaded, parts, part)
  return _encoded_media(model, table, video.times, video.duration)


def _encoded_media(
  model: VideoLM, table: np.ndarray | jax.Array, real_times: np.ndarray, duration: float
) -> EncodedMedia:
  """Groups of neighbouring frames, from their visual table and their times."""
  layout = model.layout()
  groups = np.arange(len(real_times)).reshape(-1, layout.frames_per_group)
  pattern = visual_order.video_order(len(groups), layout)
  frame_times = real_times[groups]
  group_times = frame_times[:, encode.representative(model)]
  text = templates.VisualText(len(pattern), duration, frame_times.reshape(-1), group_times)
  return EncodedMedia(jnp.asarray(table, model.llm.dtype), pattern, text, groups)


def encode_times(
  loaded: LoadedModel, timeline: Timeline, times: np.ndarray, folder: str | os.PathLike = ""
) -> tuple[np.ndarray | jax.Array, np.ndarray]:
  """(visual table [M D], real times [T]) of whole units of frames.

  The table is cached in `folder` ("" = no cache). Raises MediaError.
  """
  if folder:
    return _cached_tokens(folder, loaded, timeline, times)
  return _encode_parts(loaded, timeline, times)


def _cached_tokens(
  folder: str | os.PathLike, loaded: LoadedModel, timeline: Timeline, times: np.ndarray
) -> tuple[np.ndarray | jax.Array, np.ndarray]:
  """`_encode_parts`, cached in a folder; a failed write is not an error."""
  files.remove_leftovers(folder)
  cached = _read_tokens(folder, loaded, timeline, times)
  if cached is not None:
    return cached
  table, real_times = _encode_parts(loaded, timeline, times)
  keep_encoded(folder, loaded, timeline, times, table, real_times)
  return table, real_times


def find_encoded(
  folder: str | os.PathLike,
  loaded: LoadedModel,
  timeline: Timeline,
  times: np.ndarray,
  duration: float,
) -> EncodedMedia | None:
  """The visual tokens that a folder keeps of a timeline, or None.

  times: of the frames; duration: seconds of the timeline.
  """
  cached = _read_tokens(folder, loaded, timeline, times)
  if cached is None:
    return None
  table, real_times = cached
  return _encoded_media(loaded.model, table, real_times, duration)


def keep_encoded(
  folder: str | os.PathLike,
  loaded: LoadedModel,
  timeline: Timeline,
  times: np.ndarray,
  table: np.ndarray | jax.Array,
  real_times: np.ndarray,
) -> None:
  """Keeps a visual table in a folder.

  A failed write is not an error.
  """
  key = _cache_key(loaded, timeline, times)
  content = io.BytesIO()
  np.savez(content, table=np.asarray(table, np.float32), times=real_times)
  files.write_cache(pathlib.Path(folder, f"{key}.npz"), content.getbuffer(), key)


def _read_tokens(
  folder: str | os.PathLike, loaded: LoadedModel, timeline: Timeline, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
  """(visual table, real times) from a folder, or None."""
  key = _cache_key(loaded, timeline, times)
  return files.read_cache(pathlib.Path(folder, f"{key}.npz"), _parse_cache, key)


def _parse_cache(content: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Visual table f32 [M D] and real times f64 [T] from .npz."""
  arrays = read_npz(content)
  return arrays["table"], arrays["times"]


def _encode_parts(loaded: LoadedModel, timeline: Timeline, times) -> tuple[jax.Array, np.ndarray]:
  """(visual table [M D], real times [T])."""
  part = part_length(loaded.model, len(times))
  seconds = []

  def decoded_frames() -> Iterator[np.ndarray]:
    for frames, real_times in _decoded_parts(loaded, timeline, times, part):
      seconds.append(real_times)
      yield frames

  table = encode_parts(loaded, decoded_frames(), part)
  return table, np.concatenate(seconds)


def encode_parts(
  loaded: LoadedModel, parts: Iterable[np.ndarray], part: int
) -> Float[Array, "M D"]:
  """The visual table of a video in parts; the newline is last.

  parts: uint8 [t size size 3]. Every part has `part` frames, except that the last one may be
  shorter. Every part consists of whole groups.
  """
  model = loaded.model
  layout = model.layout()
  mask = np.ones((1, part), bool)
  no_images = encode.no_pictures(layout.size)
  tables = []
  with loaded.on_mesh():
    for frames in parts:
      count = len(frames)
      padding = np.repeat(frames[-1:], part - count, axis=0)  # One program for all parts.
      frames = np.concatenate([frames, padding])
      visual = encode.EMBED(
        f"1 x {part} frames", model, loaded.params, frames[None], mask, no_images
      )
      tokens = count // layout.frames_per_group * layout.tokens_per_group
      tables.append(jax.block_until_ready(visual.table[0, :tokens]))
  newline = visual.table[0, -1:]
  return jnp.concatenate([*tables, newline])


def part_length(model: VideoLM, frames: int) -> int:
  """The frames of a part: whole units, or a whole short video."""
  unit = frame_unit(model)
  return min(max(1, PART // unit) * unit, frames)


def _decoded_parts(
  loaded: LoadedModel, timeline: Timeline, times, part: int
) -> Iterator[media_frames.Frames]:
  """Yields (frames, times) of each part; decodes one part ahead."""

  def decode_part(first: int) -> media_frames.Frames:
    return media_frames.read_timeline(
      timeline,
      times[first : first + part],
      loaded.model.encoder.size,
      resize=loaded.processor.resize,
      limits=loaded.processor.limits,
    )

  with ThreadPoolExecutor(1) as pool:
    waiting = pool.submit(decode_part, 0)
    for first in range(0, len(times), part):
      decoded = waiting.result()
      if first + part < len(times):
        waiting = pool.submit(decode_part, first + part)
      yield decoded


def _check_context(model: VideoLM, frames: int, tokens: int) -> None:
  """Checks the visual tokens against the context, before decoding.

  Raises ValueError for more tokens than the context holds; tokens are never cut off.
  """
  context = context_length(model)
  if tokens < context:
    return
  positions = unstretched_positions(model)
  with_question = tokens + 1024
  factor = float(math.ceil(with_question / positions))
  raise ValueError(
    f"{frames} frames are {tokens} visual tokens, and the model reads {context} positions. Lower "
    f"config.infer.sampling.frames (--frames) below {frames * context // tokens}, or set "
    f"config.model.llm.yarn=({factor}, {positions}) (--yarn {factor:g})."
  )


def _cache_key(loaded: LoadedModel, timeline: Timeline, times: np.ndarray) -> str:
  """sha256 of the inputs of the merged tokens.

  These are the model's visual components and their weights, the media and the times.
  """
  model = loaded.model
  parts = {}
  for name in ("encoder", "selector", "merger", "projector", "merge_stage"):
    parts[name] = str(getattr(model, name))
  weights = _visual_weights(loaded)
  media = []
  for scene in timeline:
    identity = media_lib.identity(scene.media)
    media.append((identity, dataclasses.astuple(scene)))
  facts = json.dumps(
    [parts, weights, media, times.tolist(), loaded.processor.resize, str(model.llm.dtype)],
    default=str,
  )
  return hashlib.sha256(facts.encode()).hexdigest()


def _visual_weights(loaded: LoadedModel) -> dict[str, Any]:
  """Digests of the weights of the visual roles, computed once a model."""
  weights = _WEIGHTS.get(loaded)
  if weights is None:
    weights = {}
    for role in ("encoder", "merger", "projector"):
      weights[role] = weight_digests(loaded.params.get(role, {}))
    _WEIGHTS[loaded] = weights
  return weights


def weight_digests(tree: PyTree) -> dict[str, tuple[tuple[int, ...], list[int]]]:
  """Path -> (shape, hash) of every parameter.

  The same on any mesh, and with layers stacked or apart.
  """
  digests = {}
  for path, leaf in stacked_leaves(tree):
    digest = np.asarray(_leaf_digest(leaf)).tolist()
    digests[path] = (leaf.shape, digest)
  return digests


@jax.jit
def _leaf_digest(leaf):
  """uint32 [2]: a hash of a parameter, the same on any mesh."""
  values = leaf.astype(jnp.float32)
  bits = jax.lax.bitcast_convert_type(values, jnp.uint32).ravel()
  places = _mix_bits(jnp.arange(bits.size, dtype=jnp.uint32))
  first = _mix_bits(bits ^ places).sum(dtype=jnp.uint32)
  second = _mix_bits(bits + _mix_bits(~places)).sum(dtype=jnp.uint32)
  return jnp.stack([first, second])


def _mix_bits(x):
  """uint32 [n] -> uint32 [n]: the last step of MurmurHash3."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
