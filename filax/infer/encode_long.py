# SPDX-License-Identifier: Apache-2.0
"""Videos of any length: decoded, encoded and merged part by part, so that only the merged tokens
are ever held. For selectors that group neighbours; those that choose must see all frames at once.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import hashlib
import io
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.media import frames as video
from data_pipelines.media import open as media_lib
from data_pipelines.packing import frame_sampling, visual_order
from data_pipelines.sample import Timeline
from data_pipelines.text import templates
from filax import files
from filax.infer import encode as seen_lib
from filax.infer.compiled import on_mesh
from filax.infer.encode import Seen
from filax.infer.generate import context
from filax.infer.video import Video, count_frames, extent_of, unit_of

PART = 128  # Frames decoded and encoded at a time, about.


def suits(model) -> bool:
  """Whether a model's groups are neighbours, so that a part of a video can be read alone."""
  return not model.selector.needs_single


def see(
  model, params: Mapping, timeline: Timeline, folder: str | os.PathLike = ""
) -> tuple[Video, Seen]:
  """Reads and encodes a video as config.infer.sampling says. The Video has times but no frames.

  With a `folder`, merged tokens are kept there under what decides them, and found again. Raises
  MediaError for what cannot be read, ValueError for more frames than the model's context holds.
  """
  processor, layout = model.processor, model.layout()
  how, unit = processor.infer["sampling"], unit_of(model)
  extent = extent_of(timeline, processor.limits, how)
  count = count_frames(how, extent, unit)
  pattern = visual_order.video(count // layout.frames_per_group, layout)
  _check_context(model, count, len(pattern))
  times = frame_sampling.sample_times(how, count, extent)
  shown = frame_sampling.readable(timeline, how)
  if folder:
    table, real = _remembered(folder, model, params, shown, times)
  else:
    table, real = _encode(model, params, shown, times)
  groups = np.arange(count).reshape(-1, layout.frames_per_group)
  each = real[groups]
  visual = templates.Visual(
    len(pattern), extent.duration, each.reshape(-1), each[:, seen_lib.representative(model)]
  )
  none = np.zeros((0, layout.size, layout.size, 3), np.uint8)
  table = jnp.asarray(table, model.llm.dtype)
  return (
    Video(none, real, extent.duration, timeline[0].media),
    Seen(table, pattern, visual, groups),
  )


def _remembered(
  folder: str | os.PathLike, model, params: Mapping, timeline: Timeline, times: np.ndarray
) -> tuple[np.ndarray | jax.Array, np.ndarray]:
  """`_encode`, from a folder of checked files. One that cannot be written costs time, no more."""
  key = _key(model, params, timeline, times)
  path = pathlib.Path(folder, f"{key}.npz")
  files.remove_leftovers(folder)
  kept = files.read_cache(path, _parsed, key)
  if kept is not None:
    return kept
  table, real = _encode(model, params, timeline, times)
  content = io.BytesIO()
  np.savez(content, table=np.asarray(table, np.float32), times=real)
  files.write_cache(path, content.getbuffer(), key)
  return table, real


def _parsed(content: bytes) -> tuple[np.ndarray, np.ndarray]:
  """(visual table f32 [M D], real times f32 [T]) of an .npz file."""
  with np.load(io.BytesIO(content), allow_pickle=False) as kept:
    return kept["table"], kept["times"]


def _encode(model, params, timeline: Timeline, times) -> tuple[jax.Array, np.ndarray]:
  """(visual table [M D], real times [T])."""
  layout, unit = model.layout(), unit_of(model)
  part = max(1, PART // unit) * unit
  part = part if len(times) > part else len(times)
  eyes, tokens, seconds = model.clone(processor=None), [], []
  none = np.zeros((1, 0, layout.size, layout.size, 3), np.uint8)
  with on_mesh(model):
    for frames, real in _parts(model, timeline, times, part):
      fill = part - len(frames)  # One program: the last part is filled up.
      frames = np.concatenate([frames, np.repeat(frames[-1:], fill, axis=0)])
      found = seen_lib.EMBED(
        f"1 x {part} frames", eyes, params, frames[None], np.ones((1, part), bool), none
      )
      rows = len(real) // layout.frames_per_group * layout.tokens_per_group
      tokens.append(jax.block_until_ready(found.table[0, :rows]))
      seconds.append(real)
  return jnp.concatenate([*tokens, found.table[0, -1:]]), np.concatenate(seconds)


def _parts(model, timeline: Timeline, times, part: int) -> Iterator[video.Frames]:
  """(frames, times) of each part; the next one is decoded while this one is used."""
  read = lambda first: video.read_timeline(
    timeline,
    times[first : first + part],
    model.encoder.size,
    resize=model.processor.resize,
    limits=model.processor.limits,
  )
  firsts = range(0, len(times), part)
  with ThreadPoolExecutor(1) as pool:
    waiting = pool.submit(read, 0)
    for first in firsts:
      done = waiting.result()
      if first + part < len(times):
        waiting = pool.submit(read, first + part)
      yield done


def _check_context(model, frames: int, tokens: int) -> None:
  """Raises ValueError before anything is decoded; nothing is ever cut off in silence."""
  most = context(model)
  if tokens < most:
    return
  own = model.llm.positions
  factor = float(-(-(tokens + 1024) // own))  # With room for the question.
  raise ValueError(
    f"{frames} frames are {tokens} visual tokens, and the model reads {most} positions. Lower "
    f"config.infer.sampling.frames (--frames) below {frames * most // tokens}, or set "
    f"config.model.llm.yarn=({factor}, {own}) (--yarn {factor:g})."
  )


def _key(model, params, timeline: Timeline, times: np.ndarray) -> str:
  """sha256 of all that decides the merged tokens: parts and their weights, file and times."""
  parts = {
    name: str(getattr(model, name))
    for name in ("encoder", "selector", "merger", "projector", "merge_stage")
  }
  weights = {
    jax.tree_util.keystr(path): (leaf.shape, np.asarray(_digest(leaf)).tolist())
    for role in ("encoder", "merger", "projector")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params.get(role, {}))
  }
  media = [(media_lib.identity(scene.media), dataclasses.astuple(scene)) for scene in timeline]
  facts = json.dumps(
    [parts, weights, media, times.tolist(), model.processor.resize, str(model.llm.dtype)],
    default=str,
  )
  return hashlib.sha256(facts.encode()).hexdigest()


@jax.jit
def _digest(leaf):
  """uint32 [2] that tells a parameter from any other, on any mesh: sums of mixed bits."""
  bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32).ravel()
  places = _mixed(jnp.arange(bits.size, dtype=jnp.uint32))
  first = _mixed(bits ^ places).sum(dtype=jnp.uint32)
  second = _mixed(bits + _mixed(~places)).sum(dtype=jnp.uint32)
  return jnp.stack([first, second])


def _mixed(x):
  """uint32 [n] with every bit spread over all bits (the finish of MurmurHash3)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
