# SPDX-License-Identifier: Apache-2.0
"""Pictures per second of folders, as records give them beside a folder's name."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

KEYS = ("sample_fps", "raw_fps", "fps")

_FILE = re.compile(r"\.[A-Za-z0-9]{1,5}$|#|@[0-9.]+fps$")  # A file, a member of one, or a rate.


def folder_at_rate(path: Any, facts: Mapping[str, Any]) -> Any:
  """The name of a folder with the rate beside it.

  "frames" beside fps=3 becomes "frames@3fps". Other names stay as they are.

  Beside a file, fps is how often it is to be sampled, which config.data.sampling decides here.
  """
  rates: Sequence[Any] = [facts[key] for key in KEYS if key in facts]
  rate = next((rate for rate in rates if _is_rate(rate)), None)
  if rate is None or not isinstance(path, str) or _FILE.search(path):
    return path
  return f"{path.rstrip('/')}@{float(rate):.6f}".rstrip("0").rstrip(".") + "fps"


def _is_rate(value: Any) -> bool:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and 1e-6 <= value < 1e6
