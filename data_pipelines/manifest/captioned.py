# SPDX-License-Identifier: Apache-2.0
"""Captions of videos and their parts, of FiLax's records and of public data sets.

A shape of records is a file in `published/` and a line here.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.grounding import dense_captions, is_dense
from data_pipelines.manifest.pairs import parse_caption
from data_pipelines.manifest.published import (
  finevideo,
  internvid,
  openvid,
  panda,
  sharegpt4video,
  shot2story,
  vript,
  webvid,
)
from data_pipelines.manifest.published.shape import Caption, CaptionShape
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

SHAPES = (
  internvid.SHAPE,
  webvid.SHAPE,
  openvid.SHAPE,
  sharegpt4video.SHAPE,
  vript.SHAPE,
  shot2story.SHAPE,
  finevideo.SHAPE,
  finevideo.ALONE,
  panda.SHAPE,
)
_FIRST_KEYS = frozenset(key for shape in SHAPES for key in shape.keys)


def published_shape(record: Mapping[str, Any]) -> CaptionShape | None:
  """The public data set whose captions a record has, or None."""
  if _FIRST_KEYS.isdisjoint(record):
    return None
  for shape in SHAPES:
    if shape.keys <= record.keys():
      return shape
  return None


def record_captions(record: Mapping[str, Any]) -> list[Caption | RecordError] | None:
  """The captions of a record of a public data set.

  None for other records. A RecordError stands for a caption that is not understood. Raises
  RecordError.
  """
  shape = published_shape(record)
  if shape is not None:
    return shape.read_captions(record)
  return dense_captions(record) if is_dense(record) else None


def parse_published(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A request for a description, with its caption as the answer.

  Raises RecordError, also for the captions of several scenes.
  """
  shape = published_shape(record)
  assert shape is not None
  if shape.has_scenes:
    raise RecordError(
      f"has captions of the parts of a video, as {shape.name}; filax data synthesize makes long "
      "videos of them"
    )
  (caption,) = shape.read_captions(record)
  if isinstance(caption, RecordError):
    raise caption
  return parse_caption(caption, origin, root, report)
