# SPDX-License-Identifier: Apache-2.0
"""Draws which frames of a video were taken: one strip a way of taking them, as FiLA-Video's Fig. 1."""

from collections.abc import Sequence
import os
from typing import IO

import numpy as np

THEMES = dict(  # Paper and ink of a figure.
  light=dict(paper="#ffffff", ink="#1d2129", faint="#6b7280", line="#d5d9e0"),
  dark=dict(paper="#171a21", ink="#e8eaee", faint="#9aa1ad", line="#353b47"))
GAP = 2  # Pixels between neighbouring thumbnails.


def contact_sheet(
  rows: Sequence[tuple[str, np.ndarray, Sequence[float]]],
  path: str | os.PathLike | IO[bytes],
  *,
  group: int = 1,
  across: int = 24,
  side: int = 96,
  theme: str = "light",
) -> None:
  """Writes a PNG: for every (title, frames u8 [n h w 3], times [n] in seconds) a strip of thumbnails.

  Each thumbnail has its time below it. `group` neighbours that belong together (a scene, a triple)
  stand closer; a strip longer than `across` thumbnails goes on in the next line.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  colours = THEMES[theme]
  across = max(group, across // group * group)
  strips = [_strip(frames, times, group, across, side) for _, frames, times in rows]
  heights = [len(lines) for lines in strips]
  width = max((line[0].shape[1] for lines in strips for line in lines), default=side)
  inches = min(16.0, max(5.0, width / 110))
  line_inches = inches * side / width + 0.24
  figure = Figure((inches, sum(heights) * line_inches + 0.42 * len(rows)), dpi=150)
  FigureCanvasAgg(figure)
  figure.patch.set_facecolor(colours["paper"])
  axes = figure.subplots(
    len(rows), 1, squeeze=False, gridspec_kw=dict(height_ratios=[h + 0.2 for h in heights]))
  for ax, (title, _, _), lines in zip(axes[:, 0], rows, strips, strict=True):
    _draw(ax, title, lines, width, side, side * 0.24 / (inches * side / width), colours)
  figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / figure.get_figheight(), hspace=0.12)
  figure.savefig(path, format="png", facecolor=colours["paper"])


def _strip(frames, times, group: int, across: int, side: int):
  """[(picture u8 [side W 3], centre x of every thumbnail, times)], one per line."""
  lines = []
  for first in range(0, len(frames), across):
    part = [_thumbnail(frame, side) for frame in frames[first:first + across]]
    gaps = [GAP if (i + 1) % group else GAP * 5 for i in range(len(part))]
    width = sum(p.shape[1] for p in part) + sum(gaps[:-1])
    canvas, centres, x = np.zeros((side, width, 4), np.uint8), [], 0
    for picture, gap in zip(part, gaps, strict=True):
      canvas[:, x:x + picture.shape[1], :3] = picture
      canvas[:, x:x + picture.shape[1], 3] = 255
      centres.append(x + picture.shape[1] / 2)
      x += picture.shape[1] + gap
    lines.append((canvas, centres, list(times[first:first + across])))
  return lines


def _thumbnail(frame: np.ndarray, side: int) -> np.ndarray:
  """u8 [h w 3] -> [side w' 3], its shape kept."""
  from PIL import Image

  height, width = frame.shape[:2]
  size = (max(1, round(width * side / height)), side)
  return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.BICUBIC))


def _draw(ax, title: str, lines, width: int, side: int, room: float, colours) -> None:
  """One strip: `room` pixels under each line hold the times."""
  step = side + room
  ax.set_xlim(0, width)
  ax.set_ylim(step * len(lines), 0)
  ax.set_axis_off()
  ax.set_title(title, loc="left", color=colours["ink"], fontsize=11, fontweight="bold")
  for row, (picture, centres, times) in enumerate(lines):
    top = row * step
    ax.imshow(
      picture, extent=(0, picture.shape[1], top + side, top), aspect="auto",
      interpolation="antialiased")
    for x, seconds in zip(centres, times, strict=True):
      ax.text(
        x, top + side + room * 0.12, clock(seconds), color=colours["faint"], fontsize=7,
        ha="center", va="top")


def clock(seconds: float) -> str:
  """75.3 -> "1:15"; hours only if there are any."""
  minutes, second = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
