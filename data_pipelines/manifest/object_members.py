# SPDX-License-Identifier: Apache-2.0
"""The members of a text that is one JSON object, with their places."""

from collections.abc import Callable, Iterator
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.json_text import (
  SPACE,
  LocatedRecord,
  PlaceCounter,
  ValueDecoder,
  decoded_value,
  place_past,
)
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.manifest.text_window import TextWindow


def is_first_member(text: str, entered: str, is_wanted: Callable[[Any], bool]) -> bool:
  """Whether the value of the first member is wanted.

  text: the beginning of a file. entered: a key whose object is looked into in place of its value.
  """
  match = re.match(rf'\s*{{\s*(?:"{entered}"\s*:\s*{{\s*)?"(?:[^"\\]|\\.)*"\s*:\s*(?={{)', text)
  if match is None:
    return False
  try:
    value, _ = ValueDecoder().decode_value(text, match.end())
  except (ValueError, RecursionError):  # Also a member that is longer than the text.
    return False
  return is_wanted(value)


def object_members(window: TextWindow, entered: str) -> Iterator[LocatedRecord]:
  """The members of an object, each as (key, value).

  A RecordError stands for a damaged one. Members before the first damage are kept.

  entered: a first key whose object is read in place of its value.
  """
  decoder = ValueDecoder()
  counter = PlaceCounter(window)
  place = _first_key(decoder, window, entered)
  while True:
    place = counter.drop_before(place_past(SPACE, window, place))
    line = counter.line_at(place)
    try:
      key, value, end = _member(decoder, window, place)
    except ManifestError:
      raise
    except (ValueError, RecursionError) as error:
      reason = f"is not JSON, and the rest cannot be read: {window.message(error)}"
      yield counter.located(line, RecordError(reason), place, place)
      return
    member = value if isinstance(value, RecordError) else (key, value)
    yield counter.located(line, member, place, end)
    place = place_past(SPACE, window, end)
    if window.text[place : place + 1] != ",":
      yield from _behind(window, counter, place)
      return
    place += 1


def _member(decoder: ValueDecoder, window: TextWindow, place: int) -> tuple[Any, Any, int]:
  """(key, value, end) of the member at a place. Raises ValueError."""
  key, end = decoded_value(decoder, window, place)
  value, end = decoded_value(decoder, window, _past_colon(window, end))
  return key, value, end


def _first_key(decoder: ValueDecoder, window: TextWindow, entered: str) -> int:
  """The place of the first key, perhaps inside of `entered`. Raises ValueError."""
  place = place_past(SPACE, window, place_past(SPACE, window, 0) + 1)
  if window.text[place : place + 1] != '"':
    return place
  key, end = decoded_value(decoder, window, place)
  inside = _past_colon(window, end)
  if key != entered or window.text[inside : inside + 1] != "{":
    return place
  return place_past(SPACE, window, inside + 1)


def _past_colon(window: TextWindow, place: int) -> int:
  """The place of the value behind a key's colon. Raises ValueError."""
  place = place_past(SPACE, window, place)
  if window.text[place : place + 1] != ":":
    raise ValueError("a key is not followed by a colon")
  return place_past(SPACE, window, place + 1)


def _behind(window: TextWindow, counter: PlaceCounter, place: int) -> Iterator[LocatedRecord]:
  """An error for text behind the object. Yields nothing without such text."""
  closed = 0
  while closed < 2 and window.text[place : place + 1] == "}":
    closed += 1
    place = place_past(SPACE, window, place + 1)
  if closed and place == len(window.text):
    return
  beginning = excerpt(window.text[place : place + 100])
  error = RecordError(f"is behind the records of the object and is not read: {beginning}")
  yield counter.located(counter.line_at(place), error, place, place)
