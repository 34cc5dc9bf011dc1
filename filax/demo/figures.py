# SPDX-License-Identifier: Apache-2.0
"""Pictures of report.html as data URLs, for light and dark pages."""

import base64
from collections.abc import Callable, Mapping, Sequence
import io
import math

import numpy as np

from filax.evals.needle.figures import score_shades
from filax.infer.contact_sheet import THEMES, contact_sheet

SHADES = ("#3b82f6", "#f59e0b")  # Colours of the two stages, readable on white and on black.


def loss_curve(curves: Sequence[Sequence[Mapping]]) -> str:
  """The loss of both stages over steps, stage 2 after stage 1."""

  def draw_theme(out: io.BytesIO, theme: str) -> None:
    _draw_losses(curves, out, THEMES[theme])

  return _picture(draw_theme, "Loss over steps")


def frame_sheet(rows, group: int) -> str:
  """The frames of each selection (filax.infer.contact_sheet)."""

  def draw_theme(out: io.BytesIO, theme: str) -> None:
    contact_sheet(rows, out, group=group, theme=theme)

  return _picture(draw_theme, "Frames taken by each selection")


def thumbnail(frame: np.ndarray, title: str) -> str:
  """A frame u8 [h w 3] as an <img>."""
  from PIL import Image

  out = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(frame)).save(out, "PNG")
  return f'<img src="{_url(out)}" alt="{title}" title="{title}">'


def hidden_table(kinds: Mapping[str, Mapping]) -> dict[tuple[int, float], float]:
  """(frames, depth) -> accuracy, from kinds "<frames>/<depth>"."""
  table = {}
  for kind, row in kinds.items():
    frames, depth = kind.split("/")
    table[int(frames), float(depth)] = row["accuracy"]
  return table


def hidden_map(tables: Mapping[str, Mapping[tuple[int, float], float]]) -> str:
  """A heat map for each title.

  Its cells are accuracies, by frames of the video and depth of the scene.
  """

  def draw_theme(out: io.BytesIO, theme: str) -> None:
    _draw_maps(tables, out, THEMES[theme])

  return _picture(draw_theme, "Accuracy by length of the video and depth of the scene")


def _draw_maps(
  tables: Mapping[str, Mapping[tuple[int, float], float]],
  out: io.BytesIO,
  colours: Mapping[str, str],
) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure((10, 3.4), dpi=110, facecolor=colours["paper"], layout="constrained")
  FigureCanvasAgg(figure)
  panels = figure.subplots(1, len(tables), squeeze=False)[0]
  for ax, (title, table) in zip(panels, tables.items(), strict=True):
    _draw_map(ax, table, colours)
    ax.set_title(title, color=colours["ink"], fontsize=11)
    ax.set_xlabel("frames of the video", color=colours["faint"])
  panels[0].set_ylabel("depth of the scene", color=colours["faint"])
  figure.savefig(out, format="png", facecolor=colours["paper"])


def _draw_map(ax, table: Mapping[tuple[int, float], float], colours: Mapping[str, str]) -> None:
  """Draws a cell for each length and depth, with its accuracy."""
  lengths = sorted({frames for frames, _ in table})
  depths = sorted({depth for _, depth in table})
  scores = np.full((len(depths), len(lengths)), np.nan)
  for (frames, depth), accuracy in table.items():
    line = depths.index(depth)
    column = lengths.index(frames)
    scores[line, column] = accuracy
    ax.text(column, line, f"{accuracy:.0%}", ha="center", va="center", color=THEMES["light"]["ink"])
  ax.imshow(scores, cmap=score_shades(), vmin=0, vmax=1, aspect="auto")
  ax.set_xticks(range(len(lengths)), [f"{frames:,}" for frames in lengths])
  ax.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
  ax.tick_params(colors=colours["faint"], length=0)
  ax.spines[:].set_visible(False)


def _draw_losses(
  curves: Sequence[Sequence[Mapping]], out: io.BytesIO, colours: Mapping[str, str]
) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure((10, 3.4), dpi=110, facecolor=colours["paper"], layout="constrained")
  FigureCanvasAgg(figure)
  ax = figure.subplots()
  ax.set_facecolor(colours["paper"])
  first = 0
  for number, (curve, shade) in enumerate(zip(curves, SHADES, strict=True), 1):
    steps = [first + record["step"] for record in curve]
    # A step without a loss, or with 0, has no place on a log axis.
    losses = [record["loss"] or math.nan for record in curve]
    ax.plot(steps, losses, color=shade, linewidth=1.8, label=f"stage {number}")
    first = steps[-1]
  ax.set_yscale("log")
  ax.set_xlabel("step", color=colours["faint"])
  ax.set_ylabel("loss", color=colours["faint"])
  ax.tick_params(which="both", colors=colours["faint"], length=0)
  ax.grid(color=colours["line"], linewidth=0.7)
  ax.spines[:].set_visible(False)
  ax.legend(frameon=False, labelcolor=colours["ink"])
  figure.savefig(out, format="png", facecolor=colours["paper"])


def _picture(draw: Callable[[io.BytesIO, str], None], title: str) -> str:
  """A <picture> that follows the reader's theme."""
  urls = {}
  for theme in THEMES:
    out = io.BytesIO()
    draw(out, theme)
    urls[theme] = _url(out)
  return (
    f'<picture><source srcset="{urls["dark"]}" media="(prefers-color-scheme: dark)">'
    f'<img src="{urls["light"]}" alt="{title}"></picture>'
  )


def _url(out: io.BytesIO) -> str:
  return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
