# SPDX-License-Identifier: Apache-2.0
"""Random gaps in the positions of a sample, so that short samples train large positions.

A sample of `length` tokens is spread over a span of up to config.data.position_gaps positions.
Positions jump only before a group of frames or a picture, and after the end of a video. So tokens
that were encoded together keep neighbouring positions, and so does a piece of text.
"""

from collections.abc import Sequence

import numpy as np

from data_pipelines.packing.visual_order import NEWLINE

_STREAM = 1  # Makes these random numbers independent of those for the phase of frames.


def gapped_positions(
  length: int,
  borders: np.ndarray,
  limit: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """The positions i32 [length] of a sample, with gaps at `borders`.

  borders: places in the sample, ascending, i32 [B]. The span of the positions is drawn
  log-uniformly between `length` and `limit`. All gaps together fill the span; how they share it is
  uniform.

  Example: length 5, borders [1 3] and a span of 12 may give [0 4 5 10 11].
  """
  positions = np.arange(length, dtype=np.int32)
  if limit <= length or not len(borders):
    return positions
  span = int(np.exp(rng.uniform(np.log(length), np.log(limit))))
  surplus = max(0, span - length)
  shifts = np.sort(rng.integers(0, surplus + 1, len(borders)))
  shifts[-1] = surplus
  shifts = np.concatenate([[0], shifts])
  passed = np.searchsorted(borders, positions, side="right")
  return positions + shifts[passed].astype(np.int32)


def gap_generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
  """The random generator for a sample in an epoch."""
  return np.random.default_rng((seed, epoch, sample, _STREAM))


def visual_borders(
  spans: Sequence[tuple[int, int]],
  patterns: Sequence[np.ndarray],
  units: Sequence[int],
) -> np.ndarray:
  """The places i32 [B] where positions may jump, ascending.

  spans: start and stop of every visual of the sample. patterns: the order of its tokens
  (visual_order). units: how many tokens of each visual belong together (those of a group of frames,
  or of a picture).
  """
  borders = []
  for (start, stop), pattern, unit in zip(spans, patterns, units, strict=True):
    begins = (pattern != NEWLINE) & (pattern % unit == 0)
    borders.append(start + np.flatnonzero(begins))
    borders.append(np.array([stop]))
  if not borders:
    return np.zeros(0, np.int32)
  return np.unique(np.concatenate(borders)).astype(np.int32)
