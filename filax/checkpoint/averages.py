# SPDX-License-Identifier: Apache-2.0
"""Averages of parameters over steps, as a checkpoint holds them.

A run with config.optim.ema, or of kind "schedule_free", saves two values of every parameter that it
trains: params/PATH, from which the run continues, and average/PATH in float32. Answers,
evaluations, exports and other runs use the average, unless `read_last_values` was called. The
average of the base of adapters is always read: the adapters were trained over it.
"""

from collections.abc import Container

AVERAGE = "average"  # Tree of a checkpoint.
PARAMS = "params"
DTYPE = "float32"  # The dtype of all averages.

_LAST_VALUES: set[bool] = set()  # Holds True once `read_last_values` was called.


def read_last_values() -> None:
  """Reads the values of the last step in place of averages.

  This holds for the rest of the process.
  """
  _LAST_VALUES.add(True)


def reads_last_values() -> bool:
  """Whether `read_last_values` was called."""
  return bool(_LAST_VALUES)


def tree_of(path: str, stored: Container[str], is_base: bool = False) -> str:
  """The tree from which a parameter is read.

  stored: names of all arrays of a checkpoint, such as "params/llm/norm/scale". is_base: whether the
  checkpoint is read as the base of adapters.
  """
  wants_average = is_base or not reads_last_values()
  if wants_average and f"{AVERAGE}/{path}" in stored:
    return AVERAGE
  return PARAMS
