# SPDX-License-Identifier: Apache-2.0
"""What a file of this folder says of its data set."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data_pipelines.manifest.report import RecordError

WHOLE_VIDEO = "whole_video"
# `video` and `caption`; perhaps `start`, `end` or `duration`, `id`, and the name of the WHOLE_VIDEO
# of which `video` is a clip.
Caption = dict[str, Any]


class CaptionShape(NamedTuple):
  """What tells the records of a data set, and their captions.

  A RecordError stands for a caption that is not understood. `read_captions` raises RecordError for
  a record of which nothing is understood.
  """

  name: str
  keys: frozenset[str]  # All of them are in each of its records.
  read_captions: Callable[[Mapping[str, Any]], list[Caption | RecordError]]
  has_scenes: bool = False  # Whether a record has the captions of several parts.
