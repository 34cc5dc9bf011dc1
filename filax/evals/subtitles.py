# SPDX-License-Identifier: Apache-2.0
"""Subtitles of videos.

Files, and the rules for which lines a prompt shows.

VideoMME has SubRip files (.srt), LongVideoBench JSON lists. The rules are those of the harnesses,
accidents included, because published numbers depend on them. A file that breaks its format raises
ValueError.
"""

from collections.abc import Mapping
import functools
import json
import re
from typing import Any

import numpy as np

from filax.evals.kit import Subtitle

_TAGGED = re.compile(r'<font color="white" size=".72c">(.*?)</font>')  # VideoMME's only style.
_TAG = re.compile(r"<[^<>]*>")
_SHORTEST = 1.0  # Seconds: LongVideoBench widens shorter subtitles about their middle.

Subtitles = tuple[Subtitle, ...]


@functools.lru_cache(maxsize=4)
def srt_text(path: str) -> str:
  r"""The text of a SubRip file; its lines end in \n."""
  return _read_text(path).removeprefix("\ufeff")


def tagged_lines(text: str) -> list[str]:
  """The words of every line with a whole font tag.

  VideoChat-Flash's rule, and lmms-eval's for Gemini: captions whose tag spans two lines are lost.
  """
  lines = []
  for line in text.split("\n"):
    tagged = _TAGGED.search(line)
    if tagged is not None:
      lines.append(tagged[1])
  return lines


def srt_captions(text: str) -> Subtitles:
  """The captions of a SubRip file, in the order of the file.

  Lines of a caption are joined by spaces, tags are kept. lmms-eval's rule: of captions with equal
  times the last is kept, in the place of the first.
  """
  texts: dict[tuple[float, float], str] = {}
  for block in text.split("\n\n"):
    lines = block.strip("\n").split("\n")
    if len(lines) >= 3:
      start, stop = _srt_times(lines[1])
      texts[start, stop] = " ".join(lines[2:])
  return tuple(Subtitle(start, stop, text) for (start, stop), text in texts.items())


def captions_at_frames(captions: Subtitles, frames: int, fps: float, count: int) -> list[str]:
  """The tagged words of captions at `count` even frames of a video.

  frames, fps: of the file. lmms-eval's rule: a caption covers the frames int(start * fps) to
  int(stop * fps), captions without the tag are left out, and the order is that of CPython's set of
  their numbers.
  """
  sampled = np.linspace(0, frames - 1, count, dtype=int).tolist()
  starts = np.array([int(caption.start * fps) for caption in captions])
  stops = np.array([int(caption.stop * fps) for caption in captions])
  visible: list[int] = []
  for frame in sampled:
    covering = (starts <= frame) & (frame < stops)
    visible += np.flatnonzero(covering).tolist()
  lines = []
  for number in list(set(visible)):  # The harness's order, not that of time.
    tagged = _TAGGED.search(captions[number].text)
    if tagged is not None:
      lines.append(tagged[1])
  return lines


def captions_at_times(captions: Subtitles, times: np.ndarray) -> list[str]:
  """The words of captions on screen at any of `times`, in order.

  times: float [T], seconds. Tags are removed.
  """
  lines = []
  for caption in captions:
    on_screen = (caption.start <= times) & (times < caption.stop)
    words = _TAG.sub("", caption.text).strip()
    if on_screen.any() and words:
      lines.append(words)
  return lines


@functools.lru_cache(maxsize=4)
def timed_entries(path: str, duration: float, offset: float) -> Subtitles:
  """The subtitles of a file of LongVideoBench, in its video's seconds.

  offset: the second of the subtitles at which the video starts. LongVideoBench's rule: an end that
  is not a float becomes `duration`, before the offset is subtracted.
  """
  text = _read_text(path)
  entries = []
  try:
    for entry in json.loads(text):
      entries.append(_timed_entry(entry, duration, offset))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path} is not a list of subtitles with timestamp and text, or start, end and line "
      f"({type(error).__name__}: {error})."
    ) from None
  return tuple(entries)


def nominal_times(duration: float, limit: int) -> np.ndarray:
  """Seconds f64 [T] at which LongVideoBench looks for subtitles.

  `limit` even times without the end, or every whole second of a shorter video.
  """
  if duration > limit:
    return duration / limit * np.arange(limit)
  return np.arange(int(duration), dtype=float)


def kept_entries(entries: Subtitles, times: np.ndarray) -> list[str]:
  """The texts of subtitles that cover any of `times`, in order.

  times: float [T], seconds. Subtitles of less than a second are widened to one about their middle.
  """
  return [entry.text for entry in entries if _covers(entry, times)]


def interleaved_entries(entries: Subtitles, times: np.ndarray) -> list[int | str]:
  """The kept texts between the numbers of frames at `times` f64 [T].

  The frames up to the middle of a subtitle stand before it, the others at the end.
  """
  elements: list[int | str] = []
  frame = 0
  for entry in entries:
    middle = (entry.start + entry.stop) / 2
    while frame < len(times) and times[frame] <= middle:
      elements.append(frame)
      frame += 1
    if _covers(entry, times):
      elements.append(entry.text)
  return [*elements, *range(frame, len(times))]


def _covers(entry: Subtitle, times: np.ndarray) -> bool:
  """Whether a subtitle, widened if short, covers any of `times`."""
  start = entry.start
  stop = entry.stop
  if stop - start < _SHORTEST:
    middle = (start + stop) / 2
    start = middle - _SHORTEST / 2
    stop = middle + _SHORTEST / 2
  covered = (start < times) & (times < stop)
  return bool(covered.any())


def _timed_entry(entry: Mapping[str, Any], duration: float, offset: float) -> Subtitle:
  """One subtitle; raises KeyError, TypeError or ValueError for another form."""
  if "timestamp" in entry:
    text = entry["text"]
    start, stop = entry["timestamp"]
    if not isinstance(stop, float):
      stop = duration
  else:
    text = entry["line"]
    start = _clock_seconds(entry["start"])
    stop = _clock_seconds(entry["end"])
  if not isinstance(text, str):
    raise TypeError(f"the text {text!r} is none")
  return Subtitle(start - offset, stop - offset, text)


def _clock_seconds(clock: str) -> float:
  """Seconds of "00:01:02.5"."""
  hours, minutes, seconds = clock.split(":")
  return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _srt_times(line: str) -> tuple[float, float]:
  """The two times of "00:00:31,160 --> 00:00:33,679" in seconds."""
  start, _, stop = line.partition(" --> ")
  try:
    return _srt_seconds(start), _srt_seconds(stop)
  except ValueError:
    raise ValueError(
      f'The subtitles have a caption with the times {line!r}, not "0:00:31,160 --> 0:00:33,679".'
    ) from None


def _srt_seconds(clock: str) -> float:
  """Seconds of "00:00:31,160", to the bit of the harness."""
  hours, minutes, rest = clock.split(":")
  seconds, milliseconds = rest.split(",")
  seconds_before = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
  return seconds_before + int(milliseconds) / 1000


def _read_text(path: str) -> str:
  r"""The text of a file; its lines end in \n. Raises ValueError."""
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      return file.read()
  except OSError as error:
    raise ValueError(f"{path} cannot be read ({error.strerror}).") from None
