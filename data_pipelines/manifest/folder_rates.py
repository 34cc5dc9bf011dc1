# SPDX-License-Identifier: Apache-2.0
"""Pictures per second of folders and lists of pictures, as records give them beside a name."""

from collections.abc import Mapping
import re
from typing import Any

KEYS = ("sample_fps", "raw_fps", "fps")

# The end of the name of a file, or a member of one, or a folder's name with a rate.
_NO_FOLDER = re.compile(r"\.(?![0-9]+$)[A-Za-z0-9]{1,5}$|#|@[0-9.]+fps$")


def given_rates(facts: Mapping[str, Any]) -> dict[str, float]:
  """The rates of a record by key, pictures per second.

  Values that are no positive numbers are left out.
  """
  return {key: float(facts[key]) for key in KEYS if _is_rate(facts.get(key))}


def folder_at_rate(path: Any, facts: Mapping[str, Any]) -> Any:
  """The name of a folder with the rate beside it.

  "frames" beside fps=3 becomes "frames@3fps". Other names stay as they are: beside a file, fps is
  how often it is to be sampled, which config.data.sampling decides here.
  """
  rates = list(given_rates(facts).values())
  if not rates or not isinstance(path, str) or _NO_FOLDER.search(path):
    return path
  number = f"{rates[0]:.6f}".rstrip("0").rstrip(".")
  return f"{path.rstrip('/')}@{number}fps"


def _is_rate(value: Any) -> bool:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and 1e-6 <= value < 1e6
