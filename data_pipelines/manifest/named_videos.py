# SPDX-License-Identifier: Apache-2.0
"""Files of videos that public data sets name by their ids."""

import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError

EXTENSION = ".mp4"
_HAS_EXTENSION = re.compile(r".*\.(mp4|m4v|mkv|webm|avi|mov|flv|wmv|mpe?g|gif)", re.IGNORECASE)


def video_file(name: Any) -> str:
  """The file of a video: "v_a.mp4" of "v_a" and of "v_a.mp4".

  Which files exist is not looked at: a manifest has to be read alike on every host. Raises
  RecordError for anything but a name.
  """
  if isinstance(name, float) and name.is_integer():  # A column with empty cells has floats.
    name = int(name)
  is_number = isinstance(name, int) and not isinstance(name, bool)
  if not is_number and (not isinstance(name, str) or not name.strip()):
    raise RecordError(f"names its video by {excerpt(name)}, which is not a name")
  text = str(name).strip()
  return text if _HAS_EXTENSION.fullmatch(text) or "#" in text else text + EXTENSION
