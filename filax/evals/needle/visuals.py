# SPDX-License-Identifier: Apache-2.0
"""Visual tokens of haystack, needles and grey frames in one table, each encoded once."""

from collections.abc import Iterator, Mapping
import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from data_pipelines.media import open as media_lib
from data_pipelines.packing import visual_order
from data_pipelines.sample import Scene
from data_pipelines.synthesis import needle
from filax.infer import encode_long
from filax.infer.loaded import LoadedModel
from filax.infer.video import frame_unit, timeline_extent
from filax.spec import VisualLayout
from filax.spec.visual_order import NEWLINE

_TWICE_FROM = 7500  # VideoChat-Flash shows a haystack of more frames twice, half as long.
_BATCH = 8  # Frames of its encoder's batches, of which it reads two more.


@dataclasses.dataclass(frozen=True)
class HaystackSource:
  """A video, or the generator's scenes."""

  video: str = ""
  seed: int = 0
  twice: bool = False  # Whether long haystacks repeat, as VideoChat-Flash's.
  cache: str = ""  # Folder for the visual tokens of a video.

  def encode_haystack(
    self,
    loaded: LoadedModel,
    count: int,
  ) -> tuple[Float[Array, "M D"], int]:
    """(visual table with newline last, number of encoded frames).

    They are whole units. A video shorter than `count` frames gives fewer. Raises MediaError.
    """
    unit = frame_unit(loaded.model)
    if self.video:
      return self._encode_video(
        loaded,
        self.published_count(count),
        unit,
      )
    total = -(-count // unit) * unit
    size = loaded.model.encoder.size
    part = encode_long.part_length(loaded.model, total)
    parts = needle.haystack_parts(
      self.seed,
      "test",
      size,
      total,
      part,
    )
    return encode_long.encode_parts(loaded, parts, part), total

  def published_count(self, count: int) -> int:
    """The real frames that VideoChat-Flash encodes for `count`.

    More than 7500: int(count / 2), and the frames of its loop's two further batches.
    """
    if not self.twice or count <= _TWICE_FROM:
      return count
    return (count // 2 // _BATCH + 2) * _BATCH

  def _encode_video(
    self,
    loaded: LoadedModel,
    count: int,
    unit: int,
  ):
    """Every round(fps)-th frame from the first on: about one a second."""
    timeline = (Scene(self.video),)
    extent = timeline_extent(
      timeline,
      loaded.processor.limits,
      dict(name="first", phase="ends"),
    )
    rate = extent.frames / extent.duration if extent.duration else 1.0
    step = max(1, round(rate))
    available = -(-extent.frames // step)
    total = min(-(-count // unit) * unit, available // unit * unit)
    if not total:
      raise media_lib.MediaError(
        f"{self.video}: has {available} frames at one a second; the model reads {unit} at a time."
      )
    middles = (np.arange(total) * step + 0.5) / rate
    times = np.minimum(middles, extent.last)
    table, _ = encode_long.encode_times(
      loaded,
      timeline,
      times,
      self.cache,
    )
    return jnp.asarray(table, loaded.model.llm.dtype), total


@dataclasses.dataclass(frozen=True, eq=False)
class NeedleVisuals:
  """The visual table, and its rows.

  Rows are int32 arrays in reading order, newlines of a grid or a group included; they point into
  `table`.
  """

  table: Float[Array, "M D"]
  haystack: np.ndarray  # The rows of all frames of the longest haystack.
  pictures: Mapping[str, np.ndarray]  # The rows of every needle clip.
  grey: np.ndarray  # The rows of one grey clip.
  end: np.ndarray  # The newline after a whole video, or nothing.
  layout: VisualLayout
  real_frames: int  # Different frames of the haystack.

  def place(self, frames: int) -> int:
    """The place in the reading order where `frames` frames end.

    Inside a group, its tokens are cut.
    """
    per_group = positions_per_group(self.layout)
    return frames * per_group // self.layout.frames_per_group


def encode_visuals(
  loaded: LoadedModel, source: HaystackSource, frames: int, pictures: Mapping[str, np.ndarray]
) -> NeedleVisuals:
  """Encodes a haystack, needle clips and a grey clip.

  A haystack with fewer frames than `frames` is repeated. Raises MediaError.
  """
  layout = loaded.model.layout()
  unit = frame_unit(loaded.model)
  haystack, real_frames = source.encode_haystack(loaded, frames)
  clips = encode_clips(loaded, pictures, unit)
  table = jnp.concatenate([haystack[:-1], clips])
  clip_tokens = unit // layout.frames_per_group * layout.tokens_per_group
  newline = len(table) - 1
  first = len(haystack) - 1
  rows = {}
  for name in pictures:
    rows[name] = clip_rows(layout, unit, first, newline)
    first += clip_tokens
  return NeedleVisuals(
    table=table,
    haystack=haystack_rows(layout, frames, real_frames, newline),
    pictures=rows,
    grey=clip_rows(layout, unit, first, newline),
    end=np.full(
      int(layout.newline == "one_token"),
      newline,
      np.int32,
    ),
    layout=layout,
    real_frames=real_frames,
  )


def encode_clips(
  loaded: LoadedModel, pictures: Mapping[str, np.ndarray], unit: int
) -> Float[Array, "M D"]:
  """The tokens of still clips of `unit` frames, then the newline.

  The last clip is grey.
  """
  size = loaded.model.encoder.size
  grey = np.full((size, size, 3), media_lib.GREY, np.uint8)
  stills = [*pictures.values(), grey]
  part = encode_long.part_length(loaded.model, encode_long.PART)

  def clip_parts() -> Iterator[np.ndarray]:
    for first in range(0, len(stills), part // unit):
      chosen = np.stack(stills[first : first + part // unit])
      yield np.repeat(chosen, unit, axis=0)

  return encode_long.encode_parts(loaded, clip_parts(), part)


def positions_per_group(layout: VisualLayout) -> int:
  """Places of a group in the reading order, newlines inside included."""
  return len(visual_order.video_order(1, without_end(layout)))


def without_end(layout: VisualLayout) -> VisualLayout:
  """The layout without the newline after a whole video."""
  if layout.newline != "one_token":
    return layout
  return dataclasses.replace(layout, newline="none")


def clip_rows(
  layout: VisualLayout,
  frames: int,
  first: int,
  newline: int,
) -> np.ndarray:
  """The rows of a clip whose tokens begin at row `first`."""
  groups = frames // layout.frames_per_group
  pattern = visual_order.video_order(groups, without_end(layout))
  return visual_order.placed(pattern, first, newline)


def haystack_rows(
  layout: VisualLayout,
  frames: int,
  real: int,
  newline: int,
) -> np.ndarray:
  """The rows of a haystack of `frames` frames, of which `real` differ.

  Its tokens begin at row 0; after `real` frames it begins again.
  """
  groups = math.ceil(frames / layout.frames_per_group)
  pattern = visual_order.video_order(groups, without_end(layout))
  tokens = real // layout.frames_per_group * layout.tokens_per_group
  repeated = np.where(
    pattern == NEWLINE,
    NEWLINE,
    pattern % tokens,
  )
  return visual_order.placed(repeated, 0, newline)
