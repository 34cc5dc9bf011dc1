# SPDX-License-Identifier: Apache-2.0
"""Times that data sets write as those of a clock."""

import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError

_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2}(?:\.\d{1,9})?)", re.ASCII)


def clock_seconds(text: Any) -> float:
  """The seconds of H:MM:SS, HH:MM:SS.fff or MM:SS. Raises RecordError."""
  match = _CLOCK.fullmatch(text.strip()) if isinstance(text, str) else None
  if match is None:
    shown = text if isinstance(text, str | int | float) else type(text).__name__
    raise RecordError(f"has the time {excerpt(shown)}, which is not H:MM:SS")
  minutes = int(match[2])
  seconds = float(match[3])
  if minutes >= 60 or seconds >= 60:
    raise RecordError(f"has the time {excerpt(text)}, which is not a time of a clock")
  return round(int(match[1] or 0) * 3600 + minutes * 60 + seconds, 6)
