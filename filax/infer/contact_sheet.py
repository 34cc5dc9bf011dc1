# SPDX-License-Identifier: Apache-2.0
"""Draws which frames of a video were taken, a strip for every way to take them (FiLA, Fig. 1)."""

from collections.abc import Sequence
import os
from typing import IO

import numpy as np

THEMES = dict(
  light=dict(paper="#ffffff", ink="#1d2129", faint="#6b7280", line="#d5d9e0"),
  dark=dict(paper="#171a21", ink="#e8eaee", faint="#9aa1ad", line="#353b47"),
)
DPI = 110  # Of the drawing, whose unit is a pixel.
GAP, SPACE = 2, 10  # Between thumbnails of a group, and between groups.
TITLE, TIME, MARGIN = 34, 24, 14  # Heights of a title and of a line of times; the border.


def contact_sheet(
  rows: Sequence[tuple[str, np.ndarray, Sequence[float]]],
  path: str | os.PathLike | IO[bytes],
  *,
  group: int = 1,
  across: int = 12,
  side: int = 96,
  theme: str = "light",
) -> None:
  """Writes a PNG with a strip of thumbnails for every (title, frames u8 [n h w 3], times [n] s).

  `group` neighbours that belong together (a scene, a triple) stand closer. A strip of more than
  `across` thumbnails goes on in the next line. Thumbnails are `side` pixels high.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  colours = THEMES[theme]
  across = max(group, across // group * group)
  strips = [(title, _lines(frames, times, group, across, side)) for title, frames, times in rows]
  width = max((line[-1][0] + line[-1][1].shape[1] for _, s in strips for line in s), default=side)
  height = sum(TITLE + len(lines) * (side + TIME) for _, lines in strips)
  figure = Figure(((width + 2 * MARGIN) / DPI, (height + 2 * MARGIN) / DPI), dpi=DPI)
  FigureCanvasAgg(figure)
  ax = figure.add_axes((0, 0, 1, 1))
  ax.set_axis_off()
  top = MARGIN
  for title, lines in strips:
    ax.text(0, top, title, color=colours["ink"], fontsize=11, fontweight="bold", va="top")
    top += TITLE
    for line in lines:
      _draw(ax, line, top, side, colours["faint"])
      top += side + TIME
  ax.set_xlim(-MARGIN, width + MARGIN)
  ax.set_ylim(height + 2 * MARGIN, 0)
  figure.savefig(path, format="png", facecolor=colours["paper"])


def _lines(frames, times, group: int, across: int, side: int):
  """[[(x, picture u8 [side w 3], seconds)]], a list per line of the strip."""
  lines = []
  for first in range(0, len(frames), across):
    line, x = [], 0
    for i in range(first, min(first + across, len(frames))):
      picture = _thumbnail(frames[i], side)
      line.append((x, picture, times[i]))
      x += picture.shape[1] + (SPACE if (i + 1) % group == 0 and group > 1 else GAP)
    lines.append(line)
  return lines


def _thumbnail(frame: np.ndarray, side: int) -> np.ndarray:
  """u8 [h w 3] -> [side w' 3], its shape kept."""
  from PIL import Image

  height, width = frame.shape[:2]
  size = (max(1, round(width * side / height)), side)
  return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.BICUBIC))


def _draw(ax, line, top: float, side: int, ink: str) -> None:
  """One line of thumbnails, their times below."""
  for x, picture, seconds in line:
    right = x + picture.shape[1]
    ax.imshow(picture, extent=(x, right, top + side, top), aspect="auto")
    ax.text(
      (x + right) / 2,
      top + side + 4,
      clock(seconds),
      color=ink,
      fontsize=7.5,
      ha="center",
      va="top",
    )


def clock(seconds: float) -> str:
  """75.3 -> "1:15"; hours only if there are any."""
  minutes, second = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
