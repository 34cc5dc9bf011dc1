# SPDX-License-Identifier: Apache-2.0
"""Probes all media of a corpus in threads, with a cache."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import TextIO

from data_pipelines.chunk_pool import ChunkPool, default_processes
from data_pipelines.media import remote
from data_pipelines.media.content import content_kind
from data_pipelines.media.facts_store import FactsStore
from data_pipelines.media.known_facts import PATH, KnownFacts
from data_pipelines.media.open import (
  LIMITS,
  Limits,
  MediaError,
  cache_variant,
  identity,
)
from data_pipelines.media.probe import Probe, probe, scene_length, timeline_duration
from data_pipelines.sample import Sample
from filax.progress import ProgressLine

__all__ = [
  "MediaIndex",
  "check_readable",
  "describe",
  "media_of",
  "scene_length",
  "timeline_duration",
]

_SAVE_SECONDS = 60.0  # A first pass over a large corpus takes hours, so it is saved often.
UNREADABLE = "cannot be read"
_EARLIER = "index.json"  # Where facts were kept before they were in SQLite.
_DEFAULTS = {
  field.name: field.default for field in dataclasses.fields(Probe) if field.name != "error"
}
# Number and share of unreadable media from which a run is refused.
_REFUSED_COUNT = 10
_REFUSED_SHARE = 0.9
_QUEUE = 1024  # Media queued at a time, so that an interrupt waits for these only.
_MANY = 16  # Queues from which several processes look up what is known.


def media_of(samples: Iterable[Sample]) -> list[str]:
  """The distinct media of samples, in order of first use."""
  media: dict[str, None] = {}  # An ordered set.
  for sample in samples:
    for timeline in sample.media:
      for scene in timeline:
        media[scene.media] = None
  return list(media)


def describe(probe: Probe) -> str:
  """The facts of a medium as a short text; UNREADABLE without frames.

  Error messages are not included.
  """
  if not probe.frames:
    return UNREADABLE
  facts = {}
  for name, default in _DEFAULTS.items():
    value = getattr(probe, name)
    if value != default:
      facts[name] = value
  return json.dumps(facts, separators=(",", ":"))


def parse_description(text: str) -> Probe:
  """Parses a text of `describe`; unknown keys are ignored."""
  if text == UNREADABLE:
    return Probe()
  facts = json.loads(text)
  names = {field.name for field in dataclasses.fields(Probe)}
  for name in facts.keys() - names:
    del facts[name]
  return Probe(**facts)


def check_readable(media: int, unreadable: int, first_error: str) -> None:
  """Raises ValueError if nearly all media are unreadable.

  Otherwise a run would learn only from text. Nearly all means all, or at least ten and more than 90
  %.
  """
  nearly_all = unreadable >= _REFUSED_COUNT and unreadable > _REFUSED_SHARE * media
  if unreadable and (nearly_all or unreadable == media):
    raise ValueError(
      f"{unreadable} of {media} media cannot be read; the first: {first_error} Set "
      "config.data.root to the folder of the media, or config.data.exclude to a list that leaves "
      "them out."
    )


class MediaIndex:
  """`probes(media)` with a cache on disk.

  cache: an .sqlite file; "" for none. If an index.json of an earlier version is beside it, that is
    imported.
  planned: media -> `describe` at the time of the plan. These facts take precedence over the last
    facts, and a file that was unreadable then stays unreadable.
  progress: the stream for lines with count, rate and remaining time; None for none.

  The cache stores probes by the media's identity (path, size, time of change), so changed files are
  probed again. It also stores the last facts of every path. They are returned with the error for a
  file that is unreadable now, so a plan does not change because a file is missing.
  """

  def __init__(
    self,
    cache: str | os.PathLike = "",
    threads: int = 2,
    limits: Limits = LIMITS,
    progress: TextIO | None = sys.stderr,
    planned: Mapping[str, str] | None = None,
  ):
    self.threads = threads
    self.limits = limits
    self.progress = progress
    self.planned = planned or {}
    path = pathlib.Path(cache) if os.fspath(cache) else None
    # Probes by identity, and by PATH and path.
    self._store = FactsStore(path, None if path is None else path.with_name(_EARLIER))

  def probes(self, media: Iterable[str]) -> dict[str, Probe]:
    """media -> Probe, in the same order.

    Unreadable media have Probe.error; nothing raises.
    """
    return dict(self.each(list(dict.fromkeys(media))))

  def last_facts(self, media: str) -> Probe | None:
    """The last facts of a path, without opening it; None if unknown."""
    return self._store.get(PATH + os.path.abspath(media))

  def each(self, media: Sequence[str]) -> Iterator[tuple[str, Probe]]:
    """(medium, Probe) of every medium, in order."""
    progress = _Progress(len(media), self.progress)
    saved = time.monotonic()
    try:
      for name, result in zip(media, self._probe_all(media), strict=True):
        yield name, result
        progress.count_medium(unreadable=bool(result.error))
        if time.monotonic() - saved > _SAVE_SECONDS:
          self._store.commit()
          saved = time.monotonic()
    finally:
      self._store.commit()
    progress.report_end()

  def _probe_all(self, media: Sequence[str]) -> Iterator[Probe]:
    queues = [media[first : first + _QUEUE] for first in range(0, len(media), _QUEUE)]
    with concurrent.futures.ThreadPoolExecutor(max(1, self.threads)) as pool:
      for queue, known in zip(queues, self._look_up(queues), strict=True):
        unknown = []
        for number, name in enumerate(queue):
          if known[number] is None or self.planned.get(name) == UNREADABLE:
            known[number] = None
            unknown.append(name)
        probed = pool.map(self._probe, unknown)
        for facts in known:
          yield next(probed) if facts is None else facts

  def _look_up(self, queues: Sequence[Sequence[str]]) -> Iterator[list[Probe | None]]:
    """What is known of the media of each queue.

    Several processes look up many queues.
    """
    path = self._store.path
    if path is None:
      for queue in queues:
        yield [None] * len(queue)
      return
    look_up = KnownFacts(os.fspath(path), cache_variant(self.limits))
    processes = default_processes() if len(queues) >= _MANY else 1
    with ChunkPool(look_up, processes) as pool:
      yield from pool.map(queues)

  def _probe(self, media: str) -> Probe:
    """The facts of a medium.

    For an unreadable medium, its last facts with the error.
    """
    current = self._current(media)
    path = PATH + remote.absolute(media)
    planned = self.planned.get(media)
    last = self._store.get(path)
    if not current.error and last != current:
      self._store.put(path, current)
    if current.error:
      if planned:
        last = parse_description(planned)
      if last is None:
        return current
      return dataclasses.replace(last, error=current.error)
    if planned == UNREADABLE:
      return Probe(
        error=(
          f"{media}: could not be read when this run's plan was made; it stays masked, so that the "
          "plan stays."
        )
      )
    return current

  def _current(self, media: str) -> Probe:
    """The facts of a medium, cached if it did not change."""
    try:
      if not remote.is_remote(media):  # An object is fetched only if it must be read.
        content_kind(media)
      key = identity(media) + cache_variant(self.limits)
    except MediaError as error:
      return Probe(error=str(error))
    remembered = self._store.get(key)
    if remembered is not None:
      return remembered
    result = probe(media, self.limits)
    if not result.error:
      self._store.put(key, result)
    return result


class _Progress:
  """Count, unreadable media, rate and remaining time."""

  def __init__(self, total: int, out: TextIO | None):
    self.total = total
    self.count = 0
    self.unreadable = 0
    self.began = time.monotonic()
    self.line = None if out is None else ProgressLine(total, out)

  def count_medium(self, unreadable: bool):
    self.count += 1
    self.unreadable += unreadable
    if self.line is not None:
      self.line.show(self.count, self._words)

  def report_end(self):
    if self.line is not None:
      self.line.end(self._words)

  def _words(self) -> str:
    rate = self.count / (time.monotonic() - self.began)
    minutes, seconds = divmod(round((self.total - self.count) / rate), 60)
    return (
      f"media {self.count}/{self.total}, {self.unreadable} unreadable, {rate:.0f}/s, "
      f"{minutes} min {seconds} s left"
    )
