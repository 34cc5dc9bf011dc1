# SPDX-License-Identifier: Apache-2.0
"""VideoLM: joins the five roles. Which token of which picture stands where is decided on the host
(`visual_index`); here pictures become the rows of a visual table, and one gather splices it in."""

from collections.abc import Callable, Mapping, Sequence
import math

from flax import linen as nn
from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8
import numpy as np

from filax.ops import visual_dropout
from filax.ops.splice import splice
from filax.parallel import frame_layout as spread
from filax.parallel import zigzag
from filax.parallel.rules import constrain
from filax.spec import RowShape, VisualLayout, dropout_stages

STAGES = ("vision", "projector", "pool")


@struct.dataclass
class Visual:
  """What the LLM sees of a row's media, and which frames it was made of."""

  table: PyTree  # [B M D]: video tokens G·N', image tokens I·N'', one newline vector.
  index: PyTree  # int32 [B G K]: the frames of every group.
  mask: PyTree  # bool [B G]: groups made of real frames.


class VideoLM(nn.Module):
  """encoder -> selector -> merger -> projector -> splice -> llm.

  `merge_stage` sets where frames of a group are merged: "vision" (merger, mlp, pool), "projector"
  (mlp, merger, pool) or "pool" (mlp, pool, merger). `encode_chunk` > 0 encodes that many clips at a
  time, so that memory does not grow with the number of frames.
  """

  encoder: nn.Module
  selector: nn.Module
  merger: nn.Module
  projector: nn.Module
  llm: nn.Module
  merge_stage: str = "vision"
  encode_chunk: int = 0

  def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "R L D"]:
    """A packed batch (filax.spec.BATCH) -> hidden states of every place. Where [R L] arrays are not
    in natural order, `place` holds each token's index in its row. No visual token is dropped."""
    hidden, _ = self.llm(
      self.spliced(batch), batch["positions"], batch["segment_ids"], place=batch.get("place")
    )
    return hidden

  def shortened(self, batch: Mapping[str, Array]) -> tuple[Float[Array, "R n D"], dict[str, Array]]:
    """A packed batch in natural order, with visual dropout -> hidden states of what is left, and
    its targets, loss_mask and segment_ids [R n]; all in zig-zag order over the mesh axis seq."""
    x = self.spliced(zigzag.lay(batch))
    row = RowShape(
      batch["frames"].shape[1],
      batch["images"].shape[1],
      batch["tokens"].shape[1],
      batch["keep"].shape[-1],
    )
    hidden, left = self.llm.dropped(
      x, visual_dropout.row(batch), batch["keep"], dropout_stages.room(row, self.layout())
    )
    targets, mask = visual_dropout.targets(left)
    order = zigzag.in_use(targets.shape[1])
    lie = lambda a: a if order is None else constrain(a[:, order], "batch seq")
    return hidden, dict(
      targets=lie(targets), loss_mask=lie(mask), segment_ids=lie(left.segment_ids)
    )

  @property
  def stages(self) -> dropout_stages.Stages:
    """Where the llm drops visual tokens; an llm that cannot has none."""
    return getattr(self.llm, "stages", ())

  def spliced(self, batch: Mapping[str, Array]) -> Float[Array, "R L D"]:
    """Tokens and media of a packed batch, embedded."""
    visual = self.embed(batch["frames"], batch["frame_segment_ids"] > 0, batch["images"])
    x = splice(self.llm.embed(batch["tokens"]), visual.table, batch["visual_index"])
    return constrain(x, "batch seq -")

  def embed(
    self,
    frames: UInt8[Array, "B T h w 3"],
    mask: Bool[Array, "B T"],
    images: UInt8[Array, "B I h w 3"],
  ) -> Visual:
    """Media -> visual table."""
    batch = frames.shape[0]
    rows, index, groups_mask = [], jnp.zeros((batch, 0, 1), jnp.int32), jnp.zeros((batch, 0), bool)
    if frames.shape[1] and self.selector.needs_single:
      groups = self.selector(self.encode(frames, self.encoder.clip), mask)
      index, groups_mask = groups.index, groups.mask
      rows.append(self.merge(groups.tokens))
    elif frames.shape[1]:
      groups = self.selector(jnp.zeros((*frames.shape[:2], 0, 0)), mask)
      index, groups_mask = groups.index, groups.mask
      rows.append(self.merged(frames))
    if images.shape[1]:
      rows.append(self.project_images(self.encode(images, 1)))
    newline = self.projector.newline_vector()
    rows.append(jnp.broadcast_to(newline, (batch, 1, newline.shape[-1])))
    dtype, travel = rows[0].dtype, lambda x: constrain(x, "batch - -")  # Merged tokens alone do.
    rows = [travel(x.reshape(batch, -1, x.shape[-1]).astype(dtype)) for x in rows]
    return Visual(travel(jnp.concatenate(rows, axis=1)), index, groups_mask)

  def encode(self, frames: UInt8[Array, "B T h w 3"], clip: int) -> Float[Array, "B T N E"]:
    """Pictures -> patch tokens, `clip` frames encoded jointly."""
    batch, total = frames.shape[:2]
    _check_clips(total, clip)
    over, clips = spread.spread((batch, total), clip), spread.flatten(frames, clip)
    run = lambda model, part: model.encoder(part)
    tokens = self._in_chunks(run, clips, over, self.encode_chunk)
    return spread.unflatten(tokens, batch, total)

  def merged(self, frames: UInt8[Array, "B T h w 3"]) -> Float[Array, "B G n D"]:
    """encode, group and merge, for selectors that group neighbours: every device its own frames,
    `encode_chunk` clips at a time, so that patch tokens of the whole video, 50 times what is left
    of them, never exist at once."""
    (batch, total), size, clip = frames.shape[:2], self.selector.size, self.encoder.clip
    _check_clips(total, clip)
    self.selector.groups(total)
    unit = math.lcm(clip, size)
    if total % unit:  # Whole groups and whole clips, but no common multiple of both.
      return self.merge(
        self.selector(self.encode(frames, clip), jnp.ones((batch, total), bool)).tokens
      )

    def one(model, part):
      tokens = model.encoder(part.reshape(-1, clip, *part.shape[2:]))
      return model.merge(tokens.reshape(len(part), unit // size, size, *tokens.shape[2:]))

    over, units = spread.spread((batch, total), unit), spread.flatten(frames, unit)
    chunk = max(1, self.encode_chunk * clip // unit) if self.encode_chunk else 0
    return spread.unflatten(self._in_chunks(one, units, over, chunk), batch, total // size)

  def _in_chunks(self, run: Callable, clips, over: spread.Spread, chunk: int):
    """run(self, clips), at most `chunk` clips of every device at a time; 0 = all at once."""
    count = clips.shape[0]
    if not 0 < chunk < count // (over.rows * over.parts) or self.is_initializing():
      return run(self, clips)
    scan = nn.scan(
      lambda model, carry, part: (carry, run(model, part)),
      variable_broadcast="params",
      split_rngs={"params": False},
    )
    _, tokens = scan(self, (), spread.cut(clips, over, chunk))
    return spread.joined(tokens, over, count)

  def merge(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n D"]:
    """Groups of frames -> the tokens of each group, in the order that `merge_stage` names."""
    batch, groups, frames, _, _ = x.shape
    grid = self.encoder.grid
    if self.merge_stage == "vision":
      x = self.projector.mlp(self.merger(x))
      return self.projector.pool(x, self.merger.grid(frames, grid))
    x = self.projector.mlp(x)
    if self.merge_stage == "projector":
      return self.projector.pool(self.merger(x), self.merger.grid(frames, grid))
    x = self.projector.pool(x.reshape(batch, groups * frames, *x.shape[3:]), grid)
    return self.merger(x.reshape(batch, groups, frames, *x.shape[2:]))

  def project_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n D"]:
    """Tokens of stills -> visual tokens; images are not pooled."""
    if self.merge_stage == "vision":
      return self.projector.mlp(self.merger.images(x))
    return self.merger.images(self.projector.mlp(x))

  def extend(
    self,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    cache,
    lengths: Int[Array, "B"] | None = None,
    table: Float[Array, "B M D"] | None = None,
    visual_index: Int[Array, "B L"] | None = None,
  ):
    """Reads more tokens into the cache: a prompt (with its visual table), or one new token.

    `lengths` counts the real tokens of right-padded rows. -> hidden [B L D], cache.
    """
    x = self.llm.embed(tokens)
    if table is not None:
      x = splice(x, table, visual_index)
    return self.llm(x, positions, cache=cache, lengths=lengths)

  def read(
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
    """Right-padded prompts with their visual table -> hidden states of the last tokens [B D], and
    a cache with `spare` free slots. Visual tokens are dropped on the way, as `keep` and `room`
    say (filax.models.llms.qwen2.Qwen2.read)."""
    x, visual = self.llm.embed(tokens), jnp.zeros(tokens.shape, bool)
    if table is not None:
      x, visual = splice(x, table, visual_index), visual_index >= 0
    return self.llm.read(x, lengths, visual, keep, room, spare, chunk)

  def last_attention(
    self,
    tokens: Int[Array, "B L"],
    table: Float[Array, "B M D"],
    visual_index: Int[Array, "B L"],
  ) -> Float[Array, "layers B L"]:
    """How much the last token of prompts of equal length attends to every place in every layer,
    mean over heads."""
    return self.llm.attended(splice(self.llm.embed(tokens), table, visual_index))

  def head(self) -> Float[Array, "D V"]:
    return self.llm.head()

  def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    return self.llm.logits(hidden)

  @property
  def vocab(self) -> int:
    return self.llm.vocab

  def layout(self) -> VisualLayout:
    """How many visual tokens a group and an image become: what planning needs, by arithmetic."""
    self.check()
    grid, frames = self.encoder.grid, self.selector.size
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
      queries=getattr(self.llm, "dropout_queries", "released"),
    )

  def check(self) -> None:
    """Raises ValueError if the parts do not fit together."""
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
    """The smallest batch that touches every parameter: for init and eval_shape."""
    layout = self.layout()
    row = RowShape(frames=self.example_frames(), images=1, length=8, segments=1)
    return {k: v[None] for k, v in row.zeros(layout.size).items()}

  def example_frames(self) -> int:
    return int(np.lcm(self.encoder.clip, self.selector.size))


def _check_clips(total: int, clip: int) -> None:
  if total % clip:
    raise ValueError(
      f"{total} frames do not divide into clips of {clip}. Set config.data.sampling.frames and "
      f"config.data.rows to multiples of {clip} (config.model.encoder.clip)."
    )
