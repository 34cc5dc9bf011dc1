# SPDX-License-Identifier: Apache-2.0
"""The study of FiLA-Video's Table 2 in a world of four short videos, two steps a run."""

from filax.configs.studies import fila_table2

WORLD = dict(
  videos=2,
  held=2,
  joined=4,
  seconds=(6, 8),
  held_seconds=(6, 8),
  train_seconds=(6, 8),
  scenes=(2, 3),
  short=(0, 1),
  short_seconds=(1, 2),
)


def get_config(arg=None):
  s = fila_table2.get_config(arg)
  s.data = dict(kind="world", tasks=("shape", "colour")) | WORLD
  for _, run in s.runs:
    run["config"]["steps"] = 2
  for _, cell in s.cells:
    sampling = cell["infer"]["sampling"]
    sampling["frames"] = min(sampling["frames"], 32)
  return s
