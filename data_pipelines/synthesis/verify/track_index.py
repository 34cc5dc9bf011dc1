# SPDX-License-Identifier: Apache-2.0
"""Tracks of any number of files, found by source and key without keeping them in memory."""

from collections.abc import Iterable
import functools
import hashlib
import json
import os

import numpy as np

from data_pipelines.manifest.reader import RecordError
from data_pipelines.sample import Timeline
from data_pipelines.synthesis.track import Track, parse_track
from data_pipelines.synthesis.verify.verdicts import Verdicts

_REMEMBERED = 64  # Questions about a track follow each other.


class TrackIndex:
  """Finds tracks in files of `track_record` lines. Picklable."""

  def __init__(self, paths: Iterable[str | os.PathLike], verdicts: Verdicts):
    self._paths = [os.fspath(path) for path in paths]
    digests = []
    places = []
    for number, path in enumerate(self._paths):
      with open(path, "rb") as file:
        offset = 0
        for line, text in enumerate(file, 1):
          verdicts.at(path, line)
          digest = _checked_digest(text, verdicts)
          if digest is not None:
            digests.append(digest)
            places.append((number, offset))
          offset += len(text)
    order = np.argsort(np.array(digests, np.uint64), kind="stable")
    self._digests = np.array(digests, np.uint64)[order]
    self._places = np.array(places, np.int64).reshape(-1, 2)[order]
    self._read = functools.lru_cache(_REMEMBERED)(self._read_at)

  def __len__(self) -> int:
    return len(self._digests)

  def __getstate__(self):
    return self._paths, self._digests, self._places

  def __setstate__(self, state):
    self._paths, self._digests, self._places = state
    self._read = functools.lru_cache(_REMEMBERED)(self._read_at)

  def find(self, source: str, key: str, media: Timeline) -> list[Track]:
    """The tracks of a source video with these media."""
    digest = np.uint64(_digest(source, key))
    first, stop = np.searchsorted(self._digests, [digest, digest + np.uint64(1)])
    names = {scene.media for scene in media}
    tracks = []
    for place in range(first, stop):
      track = self._read(*map(int, self._places[place]))
      if names <= {scene.media for scene in track.media}:
        tracks.append(track)
    return tracks

  def _read_at(self, number: int, offset: int) -> Track:
    with open(self._paths[number], "rb") as file:
      file.seek(offset)
      return parse_track(json.loads(file.readline()))


def _checked_digest(text: bytes, verdicts: Verdicts) -> int | None:
  """Checks a track; returns its digest, or None."""
  if not text.strip():
    return None
  try:
    track = parse_track(json.loads(text))
  except (RecordError, ValueError) as error:
    verdicts.expect("track", False, "{}", str(error))
    return None
  last = 0.0
  for number, event in enumerate(track.events):
    reason = "event {} lasts from {} to {} seconds of {}"
    is_inside = 0 <= event.t0 <= event.t1 <= track.duration + 0.05
    values = (number, event.t0, event.t1, track.duration)
    verdicts.expect("track", is_inside, reason, *values)
    verdicts.expect("track", event.t0 >= last, "event {} begins before the one before", number)
    last = event.t0
  for part in track.parts:
    is_inside = 0 <= part.t0 < part.t1 <= track.duration + 0.05
    is_inside = is_inside and 0 <= part.first <= part.stop <= len(track.events)
    verdicts.expect("track", is_inside, "the part from {} to {} is outside", part.t0, part.t1)
  return _digest(track.source, track.key)


def _digest(source: str, key: str) -> int:
  name = f"{source}\x1f{key}".encode("utf-8", "surrogateescape")
  return int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "big")
