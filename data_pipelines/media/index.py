# SPDX-License-Identifier: Apache-2.0
"""Probes of all media of a corpus: each is looked at once, by several threads, and remembered."""

from collections.abc import Iterable, Iterator
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

__all__ = ["MediaIndex", "media_of", "scene_length", "timeline_duration"]

_SAVE_SECONDS = 60.0  # A first pass over a large corpus takes hours; little of it may be lost.
_SAY_SECONDS = 2.0
_QUEUE = 1024  # Media handed to the threads at a time: an interrupt waits for no more.


def media_of(samples) -> list[str]:
  """The distinct media of samples, in order of first use."""
  return list(dict.fromkeys(
    scene.media for sample in samples for timeline in sample.media for scene in timeline))


class MediaIndex:
  """`probes(media)` with a memory on disk.

  cache: a .json file, "" for none; it holds probes by the media's identity (path, size, time of
  change), so changed files are probed again. Errors are not remembered. progress: where lines with
  count, rate and remaining time go, None for nowhere.
  """

  def __init__(self, cache: str | os.PathLike = "", threads: int = 2, limits: Limits = LIMITS,
               progress: TextIO | None = sys.stderr):
    self.cache = pathlib.Path(cache) if os.fspath(cache) else None
    self.threads, self.limits, self.progress = threads, limits, progress
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
        yield from pool.map(self._probe, media[begin:begin + _QUEUE])

  def _probe(self, media: str) -> Probe:
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
    try:
      return {key: Probe(*row) for key, row in json.loads(self.cache.read_bytes()).items()}
    except (AttributeError, OSError, ValueError, TypeError):
      return {}

  def _save(self):
    if self.cache is None or not self._changed:
      return
    with self._lock:
      rows = {key: dataclasses.astuple(found)[:-1] for key, found in self._known.items()}
      self._changed = False
    self.cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = self.cache.with_name(f"{self.cache.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rows))
    os.replace(temporary, self.cache)


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
      print(f"media {self.count}/{self.total}, {self.bad} unreadable, {rate:.0f}/s, "
            f"{left / 60:.0f} min {left % 60:.0f} s left", file=self.out, flush=True)
