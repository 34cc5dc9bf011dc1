# SPDX-License-Identifier: Apache-2.0
"""The cells of a needle test and of its controls, and their contexts."""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import numpy as np

from filax.evals.needle import contexts
from filax.evals.needle.items import NeedleItem
from filax.evals.needle.pictures import item_keys
from filax.evals.needle.visuals import NeedleVisuals

GREY = "grey"  # All frames are grey: what words alone give away.
REMOVED = "removed"  # The needle is left out.
OTHER = "other"  # Another question's needle takes its place.
CONTROLS = {  # Name -> what is shown.
  GREY: "grey frames",
  REMOVED: "needle removed",
  OTHER: "another question's needle",
}


class Cell(NamedTuple):
  """One context: an item in a haystack of some length."""

  control: str  # "" for the test itself.
  frames: int
  depth: float | None  # None for multi hop, and where no needle lies.
  item: int  # Place in the list of items.


def score_cells(
  items: Sequence[NeedleItem],
  lengths: Sequence[int],
  depths: Sequence[float | None],
) -> list[Cell]:
  """All cells of the test.

  Neighbours share their beginnings, and questions about the same pictures their whole context.
  """
  cells = []
  for item in range(len(items)):
    for frames in lengths:
      for depth in depths or (None,):
        cells.append(Cell("", frames, depth, item))
  first_with: dict[tuple[str, ...], int] = {}
  groups = []
  for number, needle_item in enumerate(items):
    group = first_with.setdefault(needle_item.pictures, number)
    groups.append(group)
  cells.sort(key=functools.partial(_sharing_order, groups))
  return cells


def control_cells(
  items: Sequence[NeedleItem],
  others: Sequence[NeedleItem],
  lengths: Sequence[int],
  depths: Sequence[float],
  cheap: bool,
) -> list[Cell]:
  """The cells of the controls.

  Contexts that begin alike can share keys and values, and then cost little. Such controls are asked
  at all lengths, all others at the shortest length only:

    single hop  all controls at all lengths
    multi hop   grey frames at all lengths

  others: the needles that may take another's place; in single hop, at the middle depth.
  depths: empty for multi hop.
  cheap: whether keys and values are shared. If not, no control is asked at all lengths.
  """
  shortest = (min(lengths),)
  longest_first = sorted(lengths, reverse=True)
  middle = depths[len(depths) // 2] if depths else None
  cells = []
  for control in CONTROLS:
    shares = cheap and (bool(depths) or control == GREY)
    for number, item in enumerate(items):
      if control == OTHER and other_picture(item, others) is None:
        continue
      depth = middle if control == OTHER else None
      for frames in longest_first if shares else shortest:
        cells.append(Cell(control, frames, depth, number))
  cells.sort(key=_control_order)
  return cells


def other_picture(item: NeedleItem, others: Sequence[NeedleItem]) -> str | None:
  """The needle picture of the next item with another one."""
  places = [place for place, other in enumerate(others) if other.id == item.id]
  start = places[0] + 1 if places else 0
  for step in range(len(others)):
    other = others[(start + step) % len(others)]
    if other.needle_picture not in item.pictures:
      return item_keys(other)[other.needle]
  return None


def cell_rows(
  cell: Cell, item: NeedleItem, others: Sequence[NeedleItem], visuals: NeedleVisuals
) -> np.ndarray:
  """The visual rows of a context."""
  pictures = item_rows(item, visuals)
  multi_hop = len(item.questions) > 1
  if cell.control == GREY:
    length = visuals.place(cell.frames) + sum(map(len, pictures))
    return np.resize(visuals.grey, length)
  if cell.control == OTHER:
    pictures[item.needle] = visuals.pictures[str(other_picture(item, others))]
  if cell.control == REMOVED:
    del pictures[item.needle]
    if not multi_hop:
      return visuals.haystack[: visuals.place(cell.frames)]
  if multi_hop:
    return contexts.multi_hop_rows(
      visuals,
      cell.frames,
      _two_or_more(pictures),
    )
  return contexts.single_hop_rows(
    visuals,
    cell.frames,
    float(cell.depth or 0),
    pictures[0],
  )


def item_rows(item: NeedleItem, visuals: NeedleVisuals) -> list[np.ndarray]:
  """The rows of an item's pictures, in the order of the video."""
  return [visuals.pictures[key] for key in item_keys(item)]


def _two_or_more(pictures: list[np.ndarray]) -> list[np.ndarray]:
  """A chain of one picture shows it at both ends."""
  return pictures if len(pictures) > 1 else pictures * 2


def _sharing_order(groups: Sequence[int], cell: Cell):
  """Cells with equal needles at equal places are neighbours, the longest first.

  groups: a number for the pictures of every item.
  """
  before = 0 if cell.depth is None else contexts.frames_before(cell.frames, cell.depth)
  return groups[cell.item], -before, -cell.frames, cell.item


def _control_order(cell: Cell):
  names = tuple(CONTROLS)
  if cell.control == OTHER:
    return names.index(cell.control), cell.item, -cell.frames
  return names.index(cell.control), -cell.frames, cell.item
