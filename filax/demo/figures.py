# SPDX-License-Identifier: Apache-2.0
"""The pictures of report.html, as data URLs; each is drawn for a light and for a dark page."""

import base64
from collections.abc import Callable, Mapping, Sequence
import io

import numpy as np

from filax.infer.contact_sheet import THEMES, contact_sheet

SHADES = ("#3b82f6", "#f59e0b")  # Of the two stages; both are read on white and on black.


def loss_curve(curves: Sequence[Sequence[Mapping]]) -> str:
  """The loss of both stages over steps, stage 2 after stage 1."""
  return _picture(lambda out, theme: _loss_curve(curves, out, THEMES[theme]), "Loss over steps")


def sheet(rows, group: int) -> str:
  """The frames that each way takes (filax.infer.contact_sheet)."""
  return _picture(
    lambda out, theme: contact_sheet(rows, out, group=group, theme=theme),
    "Frames taken by each selection",
  )


def thumbnail(frame: np.ndarray, title: str) -> str:
  """u8 [h w 3] -> an <img>."""
  from PIL import Image

  out = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(frame)).save(out, "PNG")
  return f'<img src="{_url(out)}" alt="{title}" title="{title}">'


def _loss_curve(curves, out, colours) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure((10, 3.4), dpi=110, facecolor=colours["paper"], layout="constrained")
  FigureCanvasAgg(figure)
  ax = figure.subplots()
  ax.set_facecolor(colours["paper"])
  first = 0
  for number, (curve, shade) in enumerate(zip(curves, SHADES, strict=True), 1):
    steps = [first + record["step"] for record in curve]
    ax.plot(
      steps,
      [record["loss"] for record in curve],
      color=shade,
      linewidth=1.8,
      label=f"stage {number}",
    )
    first = steps[-1]
  ax.set_yscale("log")
  ax.set_xlabel("step", color=colours["faint"])
  ax.set_ylabel("loss", color=colours["faint"])
  ax.tick_params(which="both", colors=colours["faint"], length=0)
  ax.grid(color=colours["line"], linewidth=0.7)
  ax.spines[:].set_visible(False)
  ax.legend(frameon=False, labelcolor=colours["ink"])
  figure.savefig(out, format="png", facecolor=colours["paper"])


def _picture(draw: Callable, title: str) -> str:
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
