# SPDX-License-Identifier: Apache-2.0
"""Pictures of report.html as data URLs, for light and dark pages."""

import base64
from collections.abc import Callable, Mapping, Sequence
import io
import math

import numpy as np

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
