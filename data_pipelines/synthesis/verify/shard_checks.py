# SPDX-License-Identifier: Apache-2.0
"""Checks of one file of records, read line by line."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from data_pipelines.manifest.llava import parse_record
from data_pipelines.manifest.reader import RecordError, manifest_records
from data_pipelines.manifest.report import ManifestReport
from data_pipelines.sample import Sample
from data_pipelines.synthesis.shards import file_digest
from data_pipelines.synthesis.track import Track
from data_pipelines.synthesis.verify.asked import AskedQuestion, asked_questions, media_key
from data_pipelines.synthesis.verify.blind_pool import BlindPool
from data_pipelines.synthesis.verify.derivations import DERIVATIONS
from data_pipelines.synthesis.verify.long_videos import (
  LongVideoSums,
  check_long_video,
  is_long_video,
)
from data_pipelines.synthesis.verify.record_checks import check_media, check_question
from data_pipelines.synthesis.verify.shown_span import SLACK, shown_span
from data_pipelines.synthesis.verify.track_index import TrackIndex
from data_pipelines.synthesis.verify.verdicts import Verdicts


@dataclasses.dataclass
class ShardResult:
  """What was found in one file."""

  name: str
  verdicts: Verdicts
  records: int = 0
  questions: int = 0
  sha256: str = ""
  size: int = 0
  tasks: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)  # Task, source.
  letters: dict[tuple[str, int], Counter[int]] = dataclasses.field(default_factory=dict)
  keys: set[str] = dataclasses.field(default_factory=set)  # Keys of source videos.
  ids: np.ndarray | None = None  # uint64: digests of the records' ids.
  sums: LongVideoSums = dataclasses.field(default_factory=LongVideoSums)
  pool: BlindPool | None = None


@dataclasses.dataclass
class ShardChecker:
  """Checks files. Picklable, for the processes of a pool.

  is_made: whether the files are the output of a recipe. is_strict: whether paths must be relative
  and letters balanced. blind: how many questions of each task and source to return for attacks.
  """

  tracks: TrackIndex | None = None
  is_made: bool = False
  is_strict: bool = False
  blind: int = 0

  def __call__(self, path: str) -> ShardResult:
    result = ShardResult(os.path.basename(path), Verdicts())
    if self.blind:
      result.pool = BlindPool(self.blind)
    if self.is_made:
      result.size, result.sha256 = file_digest(path)
    ids = []
    for line, record in manifest_records(path):
      result.records += 1
      name = str(record.get("id", "")) if isinstance(record, Mapping) else ""
      result.verdicts.at(result.name, line, name)
      if name:
        ids.append(id_digest(name))
      self._check_record(record, result)
    result.ids = np.array(ids, np.uint64)
    if self.is_strict:
      _check_letters(result)
    return result

  def _check_record(self, record: Any, result: ShardResult) -> None:
    verdicts = result.verdicts
    try:
      sample = parse_record(record, "", "", ManifestReport())
    except RecordError as error:
      verdicts.expect("format", False, "{}", str(error))
      return
    verdicts.expect("format", True, "")
    check_media(sample, verdicts, self.is_strict)
    for question in asked_questions(record, sample):
      result.questions += 1
      result.tasks[question.task, question.source] += 1
      self._add_keys(question, sample, result)
      check_question(question, verdicts)
      if question.options:
        letters = result.letters.setdefault((question.task, len(question.options)), Counter())
        letters[question.right] += 1
        if result.pool is not None:
          result.pool.add(question, sample.id)
      self._check_provenance(question, result)

  def _add_keys(self, question: AskedQuestion, sample: Sample, result: ShardResult) -> None:
    result.keys.add(question.key)
    for timeline in sample.media:
      for scene in timeline:
        result.keys.add(media_key(scene.media))

  def _check_provenance(self, question: AskedQuestion, result: ShardResult) -> None:
    verdicts = result.verdicts
    if is_long_video(question):
      check_long_video(question, result.sums, verdicts)
      return
    derive = DERIVATIONS.get(question.task)
    if "track" not in question.made or self.tracks is None:
      return
    if not verdicts.expect("provenance", derive, "the task {} is unknown", question.task):
      return
    media = question.media[0] if len(question.media) == 1 else ()
    tracks = self.tracks.find(question.source, question.key, media) if media else []
    reason = "no track {} of {} with the record's media"
    if verdicts.expect("provenance", tracks, reason, question.key, question.source):
      _derive(question, tracks, verdicts)


def _derive(question: AskedQuestion, tracks: Sequence[Track], verdicts: Verdicts) -> None:
  """Derives an answer from the one of `tracks` that agrees."""
  for track in tracks:
    attempt = Verdicts()
    attempt.at(verdicts.file, verdicts.line, verdicts.record)
    _derive_from(question, track, attempt)
    if not attempt.failed:
      break
  verdicts.add(attempt)


def _derive_from(question: AskedQuestion, track: Track, verdicts: Verdicts) -> None:
  span = shown_span(question.media[0], track, question.made)
  if not verdicts.expect("times", span, "what is shown is not a part of the track"):
    return
  assert span is not None
  is_inside = -SLACK <= span.start < span.end <= track.duration + SLACK
  values = (span.start, span.end, track.duration)
  if verdicts.expect("times", is_inside, "{} to {} seconds are shown of {}", *values):
    DERIVATIONS[question.task](question, span, verdicts)


def _check_letters(result: ShardResult) -> None:
  """Every letter is right equally often, up to one."""
  for (task, count), letters in result.letters.items():
    result.verdicts.at(result.name)
    frequencies = [letters[number] for number in range(count)]
    is_balanced = max(frequencies) - min(frequencies) <= 1
    reason = "{}: right options by letter {}"
    result.verdicts.expect("letters", is_balanced, reason, task, frequencies)


def id_digest(name: str) -> int:
  """64 bits that stand for an id."""
  data = name.encode("utf-8", "surrogateescape")
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
