# SPDX-License-Identifier: Apache-2.0
"""The five roles of a VideoLM: the members that a component must have, and defaults.

A component is a flax module that inherits from its role, such as `class Median(nn.Module, Merger)`.
It must define the abstract members. The other members have defaults, which it may override.

The letters in shapes: B batch, T frames, c frames of a clip, G groups, K frames of a group, N and n
visual tokens, E width of the encoder, D width of the llm, L text positions, R packed rows.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from filax.spec.dropout_stages import Stages

Grid = tuple[int, int]  # Rows and columns of visual tokens.


@runtime_checkable
class Encoder(Protocol):
  """A vision encoder.

  It maps uint8 clips [B c h w 3] to features [B c N E]. N counts the patches of a frame, in
  row-major order. c is `clip`, or 1 for a still picture.
  """

  size: int  # Pixels of a picture's side.
  width: int  # E
  depth: int
  clip: int  # Frames encoded jointly.
  remat: str

  @property
  @abstractmethod
  def grid(self) -> Grid:
    """Rows and columns of patches."""
    ...

  @abstractmethod
  def __call__(self, frames: UInt8[Array, "B c h w 3"]) -> Float[Array, "B c N E"]: ...


class PatchEncoder(Encoder, Protocol):
  """An encoder whose patches are squares of `patch` pixels."""

  patch: int  # Pixels of a patch's side.

  @property
  def grid(self) -> Grid:
    """Rows and columns of patches; a remainder of pixels is cut off."""
    side = self.size // self.patch
    return side, side


@struct.dataclass
class Groups:
  """Groups of frames.

  The groups, and the frames of each group, are in time order.
  """

  tokens: Any  # [B G K N E]
  index: Any  # int32 [B G K]: which of the T frames of its row each frame is.
  mask: Any  # bool [B G]: False for groups of padding.


@runtime_checkable
class Selector(Protocol):
  """Selects frames of a video and puts them into groups.

  It takes the tokens of the frames [B T N E] and their mask [B T], and returns `Groups`. A selector
  has no parameters.
  """

  size: int  # K
  needs_single: bool = False  # True if a row may hold one sample only.
  chooses_scenes: bool = False  # True if the number of groups is its field `scenes`.

  @property
  def representative(self) -> int:
    """Which frame, from 0 to K-1, represents a group.

    By default it is the middle one.
    """
    return self.size // 2

  @abstractmethod
  def groups(self, frames: int) -> int:
    """The number G of groups of T = `frames` frames.

    Raises ValueError for an invalid number of frames.
    """
    ...

  @abstractmethod
  def __call__(
    self,
    tokens: Float[Array, "B T N E"],
    mask: Bool[Array, "B T"],
  ) -> Groups: ...


@runtime_checkable
class Merger(Protocol):
  """Merges the frames of a group into one set of tokens.

  It maps [B G K N E] to [B G n F]. F = E, unless it also makes tokens wider, as pixel shuffling
  does. The defaults are for a merger whose result has as many tokens as one frame, in the same
  grid.
  """

  # The values of config.model.merge_stage that it allows.
  stages: tuple[str, ...] = ("vision", "projector", "pool")

  def grid(self, frames: int, grid: Grid) -> Grid:
    """Rows and columns of the tokens of a merged group.

    The group has `frames` frames of `grid` tokens each.
    """
    del frames
    return grid

  def image_grid(self, grid: Grid) -> Grid:
    """Rows and columns of the tokens of a still picture.

    `grid` is the grid of the picture's patches.
    """
    return grid

  def merge_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n F"]:
    """Merges the tokens of still pictures.

    [B I N E] -> [B I n F].
    """
    return x

  def flops(self, frames: int, grid: Grid, width: int) -> float:
    """FLOPs of merging one group; 0 if negligible."""
    del frames, grid, width
    return 0.0

  @abstractmethod
  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n F"]: ...


@runtime_checkable
class Projector(Protocol):
  """Maps visual tokens to the width of the llm.

  `mlp` maps width E to D, `pool` reduces the number of tokens.
  """

  out: int  # D
  newline: str  # one_token | grid | frame | none

  @abstractmethod
  def mlp(self, x: Float[Array, "*b E"]) -> Float[Array, "*b D"]: ...

  @abstractmethod
  def pool(self, x: Float[Array, "B G N D"], grid: Grid) -> Float[Array, "B G n D"]:
    """Pools row-major tokens from `grid` to `pooled_grid(grid)`."""
    ...

  @abstractmethod
  def pooled_grid(self, grid: Grid) -> Grid:
    """Rows and columns after `pool`."""
    ...

  @abstractmethod
  def newline_vector(self) -> Float[Array, "D"]:
    """The vector at the end of a row, group or video.

    It is zero if the projector has no newline.
    """
    ...


@runtime_checkable
class LLM(Protocol):
  """A decoder.

  It maps embedded tokens [B L D] to normalised hidden states [B L D]. Visual dropout
  (filax.models.visual_dropout) uses only the members `blocks`, `query_key`, `normalise`,
  `empty_cache`, `ranges` and `stages`. Without `stages`, no token is dropped.
  """

  width: int  # D
  depth: int
  heads: int
  head_dim: int
  vocab: int
  positions: int  # Trained context length.
  remat: str
  dtype: Any
  dropout_positions: str = "renumber"  # Positions after a drop: renumber (released) | keep.
  dropout_queries: str = "released"  # Queries that select in training: released | answers.

  @property
  def stages(self) -> Stages:
    """The stages of visual dropout, if any."""
    return ()

  @property
  def ranges(self) -> tuple[tuple[int, int], ...]:
    """(start, stop) of the layers between the stages of visual dropout."""
    cuts = [stage.layer for stage in self.stages]
    starts = (0, *cuts)
    stops = (*cuts, self.depth)
    return tuple(zip(starts, stops, strict=True))

  @abstractmethod
  def embed(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]: ...

  @abstractmethod
  def __call__(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"] | None = None,
    cache: Any = None,
    lengths: Int[Array, "B"] | None = None,
    place: Int[Array, "B L"] | None = None,
  ) -> tuple[Float[Array, "B L D"], Any]:
    """All layers and the final norm, with an optional cache.

    Returns the hidden states, and the cache with the keys and values of the new tokens.
    """
    ...

  @abstractmethod
  def blocks(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"] | None = None,
    cache: Any = None,
    lengths: Int[Array, "B"] | None = None,
    place: Int[Array, "B L"] | None = None,
    start: int = 0,
    stop: int | None = None,
    samples: int = 0,
  ) -> tuple[Float[Array, "B L D"], Any]:
    """The layers from `start` to `stop` - 1, without the final norm.

    cache: the cache of these layers.
    samples: the most segments of a row; 0 if unknown. With a cache, samples = 1 states that the
      cache is empty.
    """
    ...

  @abstractmethod
  def normalise(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    """The norm after the last layer."""
    ...

  @abstractmethod
  def query_key(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    layer: int,
    words: str,
  ) -> tuple[Float[Array, "B L H d"], Float[Array, "B L K d"]]:
    """The queries and keys that `layer` computes from x.

    No gradient flows to the parameters of the layer. words: the dimension word of the L places
    (filax.parallel.rules), "seq" or "-".
    """
    ...

  @abstractmethod
  def empty_cache(self, batch: int, slots: int, layers: int | None = None) -> Any:
    """A cache of at least `slots` places for `layers` layers (default: all).

    Its field `length` [B] counts the tokens of each row.
    """
    ...

  @abstractmethod
  def head(self) -> Float[Array, "D V"]:
    """The output projection; columns from `vocab` on are padding."""
    ...

  def table_logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L rows"]:
    """float32 logits of all rows of the output table.

    There are at least `vocab` rows. Those from `vocab` on are meaningless.
    """
    return self.logits(hidden)

  @abstractmethod
  def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    """float32 logits of the real vocabulary."""
    ...


PROTOCOLS: dict[str, type] = {
  "encoder": Encoder,
  "selector": Selector,
  "merger": Merger,
  "projector": Projector,
  "llm": LLM,
}


def missing_members(role: str, component: type[nn.Module]) -> Sequence[str]:
  """The public members of a role that a component's class lacks."""
  protocol = PROTOCOLS[role]
  members = [*protocol.__annotations__, *vars(protocol)]
  public = sorted({name for name in members if not name.startswith("_")})
  fields = component.__dataclass_fields__
  return [name for name in public if name not in fields and not hasattr(component, name)]
