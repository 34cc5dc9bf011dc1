# SPDX-License-Identifier: Apache-2.0
"""Probes of all media of a corpus: each is looked at once, by several threads, and remembered."""

from collections.abc import Iterable, Iterator, Mapping
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import sys
import threading
import time
from typing import TextIO

from data_pipelines.media import open as media_lib
from data_pipelines.media.open import LIMITS, Limits, MediaError
from data_pipelines.media.probe import Probe, probe, scene_length, timeline_duration
from filax import files

__all__ = [
  "MediaIndex",
  "check_readable",
  "describe",
  "media_of",
  "scene_length",
  "timeline_duration",
]

_SAVE_SECONDS = 60.0  # A first pass over a large corpus takes hours; little of it may be lost.
_SAY_SECONDS = 2.0
UNREADABLE = "cannot be read"
_PATH = "path:"  # Begins the key of the last facts of a path; other keys are identities.
_MANY, _MOST = 10, 0.9  # From so many unreadable media, and such a share, on a run is refused.
_QUEUE = 1024  # Media handed to the threads at a time: an interrupt waits for no more.


def media_of(samples) -> list[str]:
  """The distinct media of samples, in order of first use."""
  return list(
    dict.fromkeys(
      scene.media for sample in samples for timeline in sample.media for scene in timeline
    )
  )


def describe(probe: Probe) -> str:
  """The facts of a medium as a short text, UNREADABLE where there are none; errors are left out."""
  if not probe.frames:
    return UNREADABLE
  usual = dataclasses.asdict(Probe(error=probe.error))
  facts = {k: value for k, value in dataclasses.asdict(probe).items() if value != usual[k]}
  return json.dumps(facts, separators=(",", ":"))


def described(text: str) -> Probe:
  """The Probe that `describe` gave this text of. What it does not know is left out."""
  facts = {} if text == UNREADABLE else json.loads(text)
  names = {field.name for field in dataclasses.fields(Probe)}
  return Probe(**{name: value for name, value in facts.items() if name in names})


def check_readable(probes: Mapping[str, Probe]) -> None:
  """Raises ValueError if no medium can be read, or hardly one: a run would learn from text alone.

  Hardly one: more than nine of ten fail, and ten or more of them.
  """
  errors = [probe.error for probe in probes.values() if probe.error]
  most = len(errors) >= _MANY and len(errors) > _MOST * len(probes)
  if errors and (most or len(errors) == len(probes)):
    raise ValueError(
      f"{len(errors)} of {len(probes)} media cannot be read; the first: {errors[0]} Set "
      "config.data.root to the folder of the media, or config.data.exclude to a list that leaves "
      "them out."
    )


class MediaIndex:
  """`probes(media)` with a memory on disk.

  cache: a .json file, "" for none; it holds probes by the media's identity (path, size, time of
  change), so changed files are probed again. It also holds the last facts of every path: they stand
  in, beside the error, for a file that cannot be read now, so that a plan does not change because a
  file is away. planned: what `describe` said of media when a plan was made; it comes before the
  last facts, and a file that could not be read then is treated as if it still could not. progress:
  where lines with count, rate and remaining time go, None for nowhere.
  """

  def __init__(
    self,
    cache: str | os.PathLike = "",
    threads: int = 2,
    limits: Limits = LIMITS,
    progress: TextIO | None = sys.stderr,
    planned: Mapping[str, str] | None = None,
  ):
    self.cache = pathlib.Path(cache) if os.fspath(cache) else None
    self.threads, self.limits, self.progress = threads, limits, progress
    self.planned = planned or {}
    self._known, self._changed, self._lock = self._load(), False, threading.Lock()

  def probes(self, media: Iterable[str]) -> dict[str, Probe]:
    """media -> Probe, in the order given. What is unreadable has Probe.error; nothing raises."""
    media = list(dict.fromkeys(media))
    found, said = {}, _Progress(len(media), self.progress)
    saved = time.monotonic()
    try:
      for name, result in zip(media, self._results(media), strict=True):
        found[name] = result
        said.step(bool(result.error))
        if time.monotonic() - saved > _SAVE_SECONDS:
          self._save()
          saved = time.monotonic()
    finally:
      self._save()
    said.done()
    return found

  def _results(self, media: list[str]) -> Iterator[Probe]:
    with concurrent.futures.ThreadPoolExecutor(max(1, self.threads)) as pool:
      for begin in range(0, len(media), _QUEUE):
        yield from pool.map(self._probe, media[begin : begin + _QUEUE])

  def _probe(self, media: str) -> Probe:
    """The facts of a medium now or, where it cannot be read, the last ones beside the error."""
    current = self._current(media)
    path = _PATH + os.path.abspath(media)
    planned = self.planned.get(media)
    with self._lock:
      last = self._known.get(path)
      if not current.error and last != current:
        self._known[path], self._changed = current, True
    if current.error:
      last = described(planned) if planned else last
      return dataclasses.replace(last, error=current.error) if last else current
    if planned == UNREADABLE:
      return Probe(
        error=(
          f"{media}: could not be read when this run's plan was made; it stays masked, so that the "
          "plan stays."
        )
      )
    return current

  def _current(self, media: str) -> Probe:
    """The facts of a medium, from memory if it did not change."""
    try:
      media_lib.kind(media)
      key = media_lib.identity(media) + media_lib.variant(self.limits)
    except MediaError as error:
      return Probe(error=str(error))
    with self._lock:
      known = self._known.get(key)
    if known is not None:
      return known
    result = probe(media, self.limits)
    if not result.error:
      with self._lock:
        self._known[key], self._changed = result, True
    return result

  def _load(self) -> dict[str, Probe]:
    """What the file holds; nothing if it is missing, damaged or of another version."""
    if self.cache is None:
      return {}
    files.remove_leftovers(self.cache.parent)
    return files.read_cache(self.cache, _parsed_probes) or {}

  def _save(self):
    """Writes all probes; a folder that cannot be written costs time at the next start, no more."""
    if self.cache is None or not self._changed:
      return
    with self._lock:
      rows = {key: dataclasses.astuple(found)[:-1] for key, found in self._known.items()}
      self._changed = False
    files.write_cache(self.cache, json.dumps(rows).encode())


def _parsed_probes(content: bytes) -> dict[str, Probe]:
  """Identity of a medium -> Probe, from the JSON of an index."""
  return {key: Probe(*row) for key, row in json.loads(content).items()}


class _Progress:
  """One line every two seconds: count, unreadable, rate and remaining time."""

  def __init__(self, total: int, out: TextIO | None):
    self.total, self.out, self.count, self.bad = total, out, 0, 0
    self.began = self.said = time.monotonic()

  def step(self, bad: bool):
    self.count, self.bad = self.count + 1, self.bad + bad
    if time.monotonic() - self.said > _SAY_SECONDS:
      self._say()

  def done(self):
    if self.said != self.began:
      self._say()

  def _say(self):
    self.said = time.monotonic()
    rate = self.count / (self.said - self.began)
    left = (self.total - self.count) / rate
    if self.out is not None:
      print(
        f"media {self.count}/{self.total}, {self.bad} unreadable, {rate:.0f}/s, "
        f"{left / 60:.0f} min {left % 60:.0f} s left",
        file=self.out,
        flush=True,
      )
