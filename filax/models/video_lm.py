# SPDX-License-Identifier: Apache-2.0
"""VideoLM: the five components of a model, joined.

The frames and pictures of a packed row become visual tokens, which form the visual table of the
row. The host has decided where each of them stands in the text (`visual_index`), so one gather puts
them in place.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from flax import linen as nn
from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8
import numpy as np

from filax.models import role_calls, visual_dropout
from filax.models.lora import DROPOUT_STREAM
from filax.ops import visual_dropout as dropout_ops
from filax.ops.attention.choice import UNKNOWN
from filax.ops.splice import splice
from filax.parallel import frame_layout, zigzag
from filax.parallel.rules import constrain
from filax.spec import RowShape, VisualLayout, dropout_stages

STAGES = ("vision", "projector", "pool")
_MOST_EXAMPLE_FRAMES = 4096


@struct.dataclass
class Visual:
  """The visual tables of rows, and their groups of frames.

  B rows of G groups of K frames, and of I images. A group becomes N' tokens of width D, an image
  N''. The table has M = G·N' + I·N'' + 1 tokens. Example: 32 groups of 196 tokens, M = 6,273.
  """

  table: PyTree  # [B M D]: the tokens of the video, then those of the images, then the newline.
  index: PyTree  # int32 [B G K]: the frames of every group.
  mask: PyTree  # bool [B G]: True for groups of real frames, False for padding.


class VideoLM(nn.Module):
  """A video language model of five components.

  encoder -> selector -> merger -> projector -> (splice into the text) -> llm

  `merge_stage` sets where the frames of a group are merged. The order is

    vision     merger, mlp, pool
    projector  mlp, merger, pool
    pool       mlp, pool, merger

  With `encode_chunk` > 0, that many clips are encoded at a time, so that memory does not grow with
  the number of frames.
  """

  encoder: nn.Module
  selector: nn.Module
  merger: nn.Module
  projector: nn.Module
  llm: nn.Module
  merge_stage: str = "vision"
  encode_chunk: int = 0  # Clips encoded at a time; 0 = all.

  def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "R L D"]:
    """Hidden states of every place of a packed batch (filax.spec.BATCH).

    No visual token is dropped. If the [R L] arrays are not in natural order, batch["place"] holds
    the index of each token in its row.
    """
    x = self.spliced(batch)
    place = batch.get("place")
    keep = batch.get("keep")
    samples = UNKNOWN if keep is None else keep.shape[-1]
    hidden, _ = self.llm(x, batch["positions"], batch["segment_ids"], place=place, samples=samples)
    return hidden

  def shortened(self, batch: Mapping[str, Array]) -> tuple[Float[Array, "R n D"], dict[str, Array]]:
    """Hidden states of a packed batch with visual dropout.

    The batch is in natural order. Returns the hidden states of the n remaining places, and their
    targets, loss_mask and segment_ids [R n]. All of these are in zig-zag order over the mesh axis
    seq.
    """
    x = self.spliced(zigzag.reorder(batch))
    row_shape = RowShape(
      frames=batch["frames"].shape[1],
      images=batch["images"].shape[1],
      length=batch["tokens"].shape[1],
      segments=batch["keep"].shape[-1],
    )
    row = dropout_ops.row_of_batch(batch)
    room = dropout_stages.room(row_shape, self.layout())
    hidden, row = visual_dropout.forward(self.llm, x, row, batch["keep"], room)
    targets, mask = dropout_ops.next_tokens(row)
    labels = dict(targets=targets, loss_mask=mask, segment_ids=row.segment_ids)
    order = zigzag.order_in_use(targets.shape[1])
    if order is not None:
      labels = {key: constrain(value[:, order], "batch seq") for key, value in labels.items()}
    return hidden, labels

  @property
  def stages(self) -> dropout_stages.Stages:
    """The llm's stages of visual dropout."""
    return self.llm.stages

  def spliced(self, batch: Mapping[str, Array]) -> Float[Array, "R L D"]:
    """The embedded text and visual tokens of a packed batch."""
    visual = self.embed(batch["frames"], batch["frame_segment_ids"] > 0, batch["images"])
    text = self.llm.embed(batch["tokens"])
    x = splice(text, visual.table, batch["visual_index"])
    return constrain(x, "batch seq -")

  def embed(
    self,
    frames: UInt8[Array, "B T h w 3"],
    mask: Bool[Array, "B T"],
    images: UInt8[Array, "B I h w 3"],
  ) -> Visual:
    """The visual table of frames and images."""
    batch, total = frames.shape[:2]
    index = jnp.zeros((batch, 0, 1), jnp.int32)
    group_mask = jnp.zeros((batch, 0), bool)
    parts = []
    if total:
      if self.selector.needs_single:
        groups = self.selector(self.encode_frames(frames, self.encoder.clip), mask)
        parts.append(self.merge(groups.tokens))
      else:  # The selector groups neighbours: it needs no tokens, so they may be empty.
        groups = self.selector(jnp.zeros((batch, total, 0, 0)), mask)
        parts.append(self.merged(frames))
      index = groups.index
      group_mask = groups.mask
    if images.shape[1]:
      parts.append(self.project_images(self.encode_frames(images, 1)))
    newline = self.projector.newline_vector()
    parts.append(jnp.broadcast_to(newline, (batch, 1, newline.shape[-1])))
    rows = []
    for part in parts:
      flat = part.reshape(batch, -1, part.shape[-1])
      flat = flat.astype(parts[0].dtype)
      rows.append(constrain(flat, "batch - -"))  # Only merged tokens move between devices.
    table = constrain(jnp.concatenate(rows, axis=1), "batch - -")
    return Visual(table, index, group_mask)

  def encode_frames(self, frames: UInt8[Array, "B T h w 3"], clip: int) -> Float[Array, "B T N E"]:
    """The patch tokens of frames, `clip` of them encoded jointly."""
    batch, total = frames.shape[:2]
    _check_clips(total, clip)
    layout = frame_layout.frame_layout((batch, total), clip)
    clips = frame_layout.flatten(frames, clip)

    def encode_clips(model, clips):
      return role_calls.encode_clips(model.encoder, clips)

    tokens = self._in_chunks(encode_clips, clips, layout, self.encode_chunk)
    return frame_layout.unflatten(tokens, batch, total)

  def merged(self, frames: UInt8[Array, "B T h w 3"]) -> Float[Array, "B G n D"]:
    """Encodes and merges frames, for selectors that group neighbours.

    Every device encodes and merges its own frames, `encode_chunk` clips at a time. So the patch
    tokens of the whole video, which are 50 times as many as the merged tokens, never exist at once.
    """
    batch, total = frames.shape[:2]
    size = self.selector.size
    clip = self.encoder.clip
    _check_clips(total, clip)
    self.selector.groups(total)  # Raises ValueError if the frames are not whole groups.
    unit = math.lcm(clip, size)
    if total % unit:  # The frames are whole groups and whole clips, but not whole units of both.
      tokens = self.encode_frames(frames, clip)
      groups = self.selector(tokens, jnp.ones((batch, total), bool))
      return self.merge(groups.tokens)

    def encode_and_merge(model, units):
      clips = units.reshape(-1, clip, *units.shape[2:])
      tokens = role_calls.encode_clips(model.encoder, clips)
      groups = tokens.reshape(len(units), unit // size, size, *tokens.shape[2:])
      return model.merge(groups)

    layout = frame_layout.frame_layout((batch, total), unit)
    units = frame_layout.flatten(frames, unit)
    units_at_a_time = 0
    if self.encode_chunk:
      units_at_a_time = max(1, self.encode_chunk * clip // unit)
    merged = self._in_chunks(encode_and_merge, units, layout, units_at_a_time)
    return frame_layout.unflatten(merged, batch, total // size)

  def _in_chunks(self, body: Callable, clips, layout: frame_layout.FrameLayout, chunk: int):
    """body(self, clips), with at most `chunk` clips per device at a time.

    0 computes all clips at once.
    """
    count = clips.shape[0]
    count_on_device = count // (layout.rows * layout.parts)
    needs_chunks = 0 < chunk < count_on_device
    if not needs_chunks or self.is_initializing():
      return body(self, clips)

    def scan_body(model, carry, clips):
      return carry, body(model, clips)

    rngs: dict[Any, bool] = {"params": False, DROPOUT_STREAM: True}
    scan = nn.scan(scan_body, variable_broadcast="params", split_rngs=rngs)
    _, tokens = scan(self, (), frame_layout.cut(clips, layout, chunk))
    return frame_layout.joined(tokens, layout, count)

  def merge(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n D"]:
    """Merges, projects and pools groups of frames, in the order of `merge_stage`."""
    batch, groups, frames, _, _ = x.shape
    grid = self.encoder.grid
    if self.merge_stage == "vision":
      x = role_calls.merge_groups(self.merger, x, grid)
      x = role_calls.project_tokens(self.projector, x)
      return role_calls.pool_groups(self.projector, x, self.merger.grid(frames, grid))
    x = role_calls.project_tokens(self.projector, x)
    if self.merge_stage == "projector":
      x = role_calls.merge_groups(self.merger, x, grid)
      return role_calls.pool_groups(self.projector, x, self.merger.grid(frames, grid))
    x = x.reshape(batch, groups * frames, *x.shape[3:])
    x = role_calls.pool_groups(self.projector, x, grid)
    x = x.reshape(batch, groups, frames, *x.shape[2:])
    return role_calls.merge_groups(self.merger, x, self.projector.pooled_grid(grid))

  def project_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n D"]:
    """The visual tokens of still pictures, which are not pooled."""
    grid = self.encoder.grid
    if self.merge_stage == "vision":
      merged = role_calls.merge_pictures(self.merger, x, grid)
      return role_calls.project_tokens(self.projector, merged)
    projected = role_calls.project_tokens(self.projector, x)
    return role_calls.merge_pictures(self.merger, projected, grid)

  def extend(
    self,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    cache,
    lengths: Int[Array, "B"] | None = None,
    table: Float[Array, "B M D"] | None = None,
    visual_index: Int[Array, "B L"] | None = None,
  ):
    """Computes more tokens, and writes their keys and values into the cache.

    The tokens are a prompt with its visual table, or one new token per row. `lengths` counts the
    real tokens of right-padded rows. Returns hidden states [B L D] and the cache.
    """
    x = self.llm.embed(tokens)
    if table is not None:
      x = splice(x, table, _present(visual_index))
    return self.llm(x, positions, cache=cache, lengths=lengths)

  def prefill(
    self,
    tokens: Int[Array, "B L"],
    lengths: Int[Array, "B"],
    table: Float[Array, "B M D"] | None,
    visual_index: Int[Array, "B L"] | None,
    keep: Int[Array, "B stages 1"],
    room: Sequence[int],
    spare: int,
    chunk: int,
  ):
    """Computes right-padded prompts with their visual tables, and fills a new cache.

    Returns the hidden states of the last tokens [B D], and the cache, which has `spare` free slots
    more. Visual tokens are dropped between ranges of layers according to `keep` and `room`
    (filax.models.visual_dropout.prefill).
    """
    x = self.llm.embed(tokens)
    if table is None:
      visual = jnp.zeros(tokens.shape, bool)
    else:
      index = _present(visual_index)
      x = splice(x, table, index)
      visual = index >= 0
    return visual_dropout.prefill(self.llm, x, lengths, visual, keep, room, spare, chunk)

  def attention_from(
    self,
    tokens: Int[Array, "B L"],
    table: Float[Array, "B M D"],
    visual_index: Int[Array, "B L"],
    queries: Int[Array, "B Q"],
  ) -> Float[Array, "layers B L"]:
    """Mean attention of the tokens at `queries` to every place.

    queries: places, -1 for padding. The mean is over heads and queries. A token sees itself and
    earlier tokens only, so the tokens after the last query change nothing.
    """
    x = self.llm.embed(tokens)
    x = splice(x, table, visual_index)
    return visual_dropout.attention_by_layer(self.llm, x, queries)

  def head(self) -> Float[Array, "D V"]:
    return self.llm.head()

  def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    return self.llm.logits(hidden)

  def table_logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L rows"]:
    return self.llm.table_logits(hidden)

  def empty_cache(self, batch: int, slots: Sequence[int]):
    """An empty cache of the llm.

    slots[n]: the number of slots in the n-th range of layers.
    """
    return visual_dropout.empty_caches(self.llm, batch, slots)

  @property
  def vocab(self) -> int:
    return self.llm.vocab

  def layout(self) -> VisualLayout:
    """Numbers of visual tokens per group and image, for the planner.

    No parameters and no devices are needed.
    """
    self.check_parts()
    grid = self.encoder.grid
    frames = self.selector.size
    if self.merge_stage == "pool":
      group = self.merger.grid(frames, self.projector.pooled_grid(grid))
    else:
      group = self.projector.pooled_grid(self.merger.grid(frames, grid))
    return VisualLayout(
      size=self.encoder.size,
      frames_per_group=frames,
      group_grid=group,
      image_grid=self.merger.image_grid(grid),
      newline=self.projector.newline,
      stages=self.stages,
      queries=self.llm.dropout_queries,
      clip=self.encoder.clip,
    )

  def check_parts(self) -> None:
    """Raises ValueError if the components do not fit together."""
    if self.merge_stage not in STAGES:
      raise ValueError(
        f"config.model.merge_stage={self.merge_stage!r} is unknown. Set it to one of "
        f"{', '.join(STAGES)}."
      )
    if self.merge_stage not in self.merger.stages:
      raise ValueError(
        f"config.model.merge_stage={self.merge_stage!r} does not suit the merger "
        f"{type(self.merger).__name__}. Set it to one of {', '.join(self.merger.stages)}."
      )

  def example(self) -> dict[str, np.ndarray]:
    """The smallest batch that uses every parameter, for `init` and `eval_shape`."""
    layout = self.layout()
    row = RowShape(frames=self.example_frames(), images=1, length=8, segments=1)
    return {key: array[None] for key, array in row.zeros(layout.size).items()}

  def example_frames(self) -> int:
    """The fewest frames that the selector takes."""
    unit = int(np.lcm(self.encoder.clip, self.selector.size))
    for frames in range(unit, _MOST_EXAMPLE_FRAMES, unit):
      try:
        self.selector.groups(frames)
      except ValueError:
        continue
      return frames
    return unit  # The selector says what is wrong with it.


def _present(visual_index: Int[Array, "B L"] | None) -> Int[Array, "B L"]:
  """`visual_index` itself; raises TypeError if it is None."""
  if visual_index is None:
    raise TypeError("A visual table needs a visual_index, the places of its tokens.")
  return visual_index


def _check_clips(total: int, clip: int) -> None:
  if total % clip:
    raise ValueError(
      f"{total} frames do not divide into clips of {clip}. Set config.data.sampling.frames and "
      f"config.data.rows to multiples of {clip} (config.model.encoder.clip)."
    )
