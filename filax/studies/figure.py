# SPDX-License-Identifier: Apache-2.0
"""matplotlib figures without a window."""


def figure_of(columns: int):
  """(figure, its axes side by side)."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure((5 * columns, 4), layout="constrained")
  FigureCanvasAgg(figure)
  return figure, figure.subplots(1, columns, squeeze=False)[0]
