# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: the frames of each selection (FiLA, Fig. 1)."""

from collections.abc import Sequence
import dataclasses
import os
from typing import IO

import numpy as np

Frames = np.ndarray | Sequence[np.ndarray]  # uint8 [n h w 3]

THEMES = dict(
  light=dict(paper="#ffffff", ink="#1d2129", faint="#6b7280", line="#d5d9e0"),
  dark=dict(paper="#171a21", ink="#e8eaee", faint="#9aa1ad", line="#353b47"),
)
DPI = 110  # Resolution of the drawing, whose unit is a pixel.
GAP = 2  # Between thumbnails of a group.
SPACE = 10  # Between groups.
TITLE = 34  # Height of a title.
TIME = 24  # Height of a line of times.
MARGIN = 14  # The border.


@dataclasses.dataclass(frozen=True, eq=False)
class _Thumbnail:
  """A small picture in its line."""

  x: int
  picture: np.ndarray  # uint8 [side w 3]
  seconds: float

  @property
  def right(self) -> int:
    """The x of its right edge."""
    return self.x + self.picture.shape[1]


def contact_sheet(
  rows: Sequence[tuple[str, Frames, Sequence[float]]],
  path: str | os.PathLike | IO[bytes],
  *,
  group: int = 1,
  across: int = 12,
  side: int = 96,
  theme: str = "light",
) -> None:
  """Writes a PNG with a strip of thumbnails for every row.

  rows: (title, frames u8 [n h w 3], times [n] in seconds).

  `group` neighbours of one scene or triple are drawn closer together. A strip of more than `across`
  thumbnails continues in the next line. Thumbnails are `side` pixels high.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  colours = THEMES[theme]
  across = max(group, across // group * group)
  strips = []
  for title, frames, times in rows:
    strips.append((title, _strip_lines(frames, times, group, across, side)))
  width, height = _sheet_size(strips, side)
  figure = Figure(((width + 2 * MARGIN) / DPI, (height + 2 * MARGIN) / DPI), dpi=DPI)
  FigureCanvasAgg(figure)
  ax = figure.add_axes((0, 0, 1, 1))
  ax.set_axis_off()
  top = MARGIN
  for title, lines in strips:
    ax.text(0, top, title, color=colours["ink"], fontsize=11, fontweight="bold", va="top")
    top += TITLE
    for line in lines:
      _draw_line(ax, line, top, side, colours["faint"])
      top += side + TIME
  ax.set_xlim(-MARGIN, width + MARGIN)
  ax.set_ylim(height + 2 * MARGIN, 0)
  figure.savefig(path, format="png", facecolor=colours["paper"])


def _sheet_size(strips: Sequence[tuple[str, list[list[_Thumbnail]]]], side: int) -> tuple[int, int]:
  """(width, height) of all strips in pixels, without the border."""
  widths = []
  height = 0
  for _, lines in strips:
    height += TITLE + len(lines) * (side + TIME)
    for line in lines:
      widths.append(line[-1].right)
  return max(widths, default=side), height


def _strip_lines(
  frames: Frames, times: Sequence[float], group: int, across: int, side: int
) -> list[list[_Thumbnail]]:
  """The thumbnails of a strip, a list per line."""
  lines = []
  for first in range(0, len(frames), across):
    line = []
    x = 0
    for place in range(first, min(first + across, len(frames))):
      thumbnail = _Thumbnail(x, _scaled(frames[place], side), times[place])
      line.append(thumbnail)
      ends_group = group > 1 and (place + 1) % group == 0
      x = thumbnail.right + (SPACE if ends_group else GAP)
    lines.append(line)
  return lines


def _scaled(frame: np.ndarray, side: int) -> np.ndarray:
  """Scales a frame u8 [h w 3] to height `side`.

  Returns u8 [side w' 3] with the same aspect ratio.
  """
  from PIL import Image

  height, width, _ = frame.shape
  size = (max(1, round(width * side / height)), side)
  picture = Image.fromarray(np.ascontiguousarray(frame))
  return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _draw_line(ax, line: Sequence[_Thumbnail], top: float, side: int, ink: str) -> None:
  """Draws one line of thumbnails with their times below."""
  for thumbnail in line:
    extent = (thumbnail.x, thumbnail.right, top + side, top)
    ax.imshow(thumbnail.picture, extent=extent, aspect="auto")
    ax.text(
      (thumbnail.x + thumbnail.right) / 2,
      top + side + 4,
      clock(thumbnail.seconds),
      color=ink,
      fontsize=7.5,
      ha="center",
      va="top",
    )


def clock(seconds: float) -> str:
  """Formats seconds: 75.3 -> "1:15", 3675 -> "1:01:15"."""
  minutes, second = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
