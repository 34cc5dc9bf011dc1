# SPDX-License-Identifier: Apache-2.0
"""Numbers of JSON, which may be NaN, infinite, or whole with thousands of digits."""

from typing import Any

_LARGEST = 1e300  # A float holds it, so that arithmetic and formats do not overflow.


def is_number(value: Any) -> bool:
  """Whether a value is a finite number, and no truth value."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return -_LARGEST <= value <= _LARGEST
