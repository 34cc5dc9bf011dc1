# SPDX-License-Identifier: Apache-2.0
"""What samples need of a row, and what rows can hold.

Both are counted in tokens (positions), frames, images and segments. With visual dropout, they also
count the tokens after every stage, which are fewer, and the query positions.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

from data_pipelines.text.templates import UNWRITABLE
from filax.spec import RowShape

DemandOfEpoch = Callable[[int], "Demand"]


@dataclasses.dataclass(frozen=True)
class SampleDemand:
  """The demand of one sample.

  `tokens_after` has one entry per stage of visual dropout.
  """

  tokens: int
  frames: int
  images: int
  tokens_after: Sequence[int] | np.ndarray = ()
  queries: int = 0


@dataclasses.dataclass(frozen=True)
class Demand:
  """The demand of all samples, as columns of i64."""

  tokens: np.ndarray  # [samples]; UNWRITABLE where the chat template fails.
  frames: np.ndarray  # [samples]
  images: np.ndarray  # [samples]
  tokens_after: np.ndarray  # [samples stages]: tokens after every stage of visual dropout.
  queries: np.ndarray  # [samples]: query positions of visual dropout; 0 without stages.

  @classmethod
  def zeros(cls, samples: int, stages: int) -> "Demand":
    """Zeros for samples that are not measured yet."""
    return cls(
      tokens=np.zeros(samples, np.int64),
      frames=np.zeros(samples, np.int64),
      images=np.zeros(samples, np.int64),
      tokens_after=np.zeros((samples, stages), np.int64),
      queries=np.zeros(samples, np.int64),
    )

  @classmethod
  def of_samples(cls, samples: Sequence[SampleDemand], stages: int) -> "Demand":
    """The demand of samples that were measured one by one."""
    after = [sample.tokens_after for sample in samples]
    return cls(
      tokens=np.array([sample.tokens for sample in samples], np.int64),
      frames=np.array([sample.frames for sample in samples], np.int64),
      images=np.array([sample.images for sample in samples], np.int64),
      tokens_after=np.array(after, np.int64).reshape(len(samples), stages),
      queries=np.array([sample.queries for sample in samples], np.int64),
    )

  @classmethod
  def from_columns(cls, columns: np.ndarray) -> "Demand":
    """The inverse of `columns()`: from an array [samples columns]."""
    dropout = columns.shape[1] > 3
    return cls(
      tokens=columns[:, 0],
      frames=columns[:, 1],
      images=columns[:, 2],
      tokens_after=columns[:, 3:-1],
      queries=columns[:, -1] if dropout else np.zeros(len(columns), np.int64),
    )

  def columns(self) -> np.ndarray:
    """One array [samples columns], used for storage, fingerprint and packing.

    The columns are tokens, frames, images; with visual dropout also the tokens after every stage,
    and the query positions: the order of `capacity`.
    """
    parts = [self.tokens, self.frames, self.images]
    if self.stages:
      parts += [*self.tokens_after.T, self.queries]
    columns = np.empty((len(self), len(parts)), np.int64)
    for number, part in enumerate(parts):
      columns[:, number] = part
    return columns

  def __len__(self) -> int:
    return len(self.tokens)

  @property
  def unwritable(self) -> np.ndarray:
    """bool [samples]: whether the chat template cannot write the sample."""
    return self.tokens == UNWRITABLE

  @property
  def stages(self) -> int:
    """Stages of visual dropout."""
    return self.tokens_after.shape[1]

  def take(self, samples: np.ndarray) -> "Demand":
    """The demand of selected samples, by numbers or by mask."""
    return Demand(
      tokens=self.tokens[samples],
      frames=self.frames[samples],
      images=self.images[samples],
      tokens_after=self.tokens_after[samples],
      queries=self.queries[samples],
    )

  def fits(self, shape: RowShape) -> np.ndarray:
    """bool [samples]: whether the sample fits in an empty row."""
    fits = self.fits_but_queries(shape)
    if shape.room:
      fits &= self.queries <= shape.queries
    return fits

  def fits_but_queries(self, shape: RowShape) -> np.ndarray:
    """bool [samples]: `fits` without the limit on query positions."""
    fits = self.fits_undropped(shape)
    if shape.room:
      fits &= (self.tokens_after <= shape.room).all(1)
    return fits

  def fits_undropped(self, shape: RowShape) -> np.ndarray:
    """bool [samples]: whether tokens, frames and images fit before visual dropout."""
    fits = (self.tokens <= shape.length) & ~self.unwritable
    return fits & (self.frames <= shape.frames) & (self.images <= shape.images)


def capacity(shape: RowShape) -> list[int]:
  """The capacity of a row, in the order of `Demand.columns`."""
  counts = [shape.length, shape.frames, shape.images]
  if shape.room:
    counts += [*shape.room, shape.queries]
  return counts
