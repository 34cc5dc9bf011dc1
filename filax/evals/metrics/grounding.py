# SPDX-License-Identifier: Apache-2.0
"""Temporal grounding: the overlap of the answered span with the right one."""

from collections.abc import Callable, Sequence
import dataclasses

from filax.evals.kit import Example, Score
from filax.evals.metrics.spans import Span, intersection_over_union

THRESHOLDS = (0.3, 0.5, 0.7)
HEADLINE_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class Grounding:
  """R@1 at several overlaps, and the mean overlap (mIoU).

  `parse` reads a span (filax.evals.metrics.spans); an answer without one has no overlap.
  """

  parse: Callable[[str], Span | None]
  headline: str = f"R@{HEADLINE_THRESHOLD}"

  def score(self, text: str, example: Example) -> Score:
    """1 if the overlap is 0.5 or more.

    Raises ValueError for a question without a right span.
    """
    if example.span is None:
      raise ValueError(f"{example.id} has no right span.")
    span = self.parse(text)
    if span is None:
      return Score(0.0, None, iou=0.0, empty=not text.strip())
    start, stop = span
    iou = intersection_over_union(example.span, span)
    return Score(float(iou >= HEADLINE_THRESHOLD), f"{start:g}-{stop:g}", iou=iou)

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """R@0.3, R@0.5, R@0.7 and mIoU over all answers."""
    if not scores:
      return {}
    overlaps = [score.iou or 0.0 for score in scores]
    averages = {}
    for threshold in THRESHOLDS:
      reached = sum(overlap >= threshold for overlap in overlaps)
      averages[f"R@{threshold}"] = reached / len(scores)
    averages["mIoU"] = sum(overlaps) / len(scores)
    return averages
