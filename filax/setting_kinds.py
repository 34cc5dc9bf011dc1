# SPDX-License-Identifier: Apache-2.0
"""Kinds of settings: the valid values, in words and as a test.

Standard library only.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
import numbers
import os
import re
from typing import Any

LARGEST = 2**31 - 1  # Of whole numbers; arrays on devices hold no larger ones.
_SCORE = re.compile(r"-?eval/[^/]+/.+")
_STRATEGY = re.compile(r"all|(first|end|random):([0-9]+|[0-9]*\.?[0-9]+%)")


@dataclasses.dataclass(frozen=True)
class Setting:
  """The valid values of a setting, in words and as a test.

  words: follow "Set it to" in messages.
  """

  words: str
  fits: Callable[[Any], bool]


def check_value(knob: str, value: Any, setting: Setting) -> None:
  """Raises ValueError naming the knob if the value does not fit."""
  try:
    fits = setting.fits(value)
  except (TypeError, ValueError, OverflowError):
    fits = False
  if not fits:
    problem = "is unknown" if setting.words.startswith("one of ") else "cannot be used"
    raise ValueError(f"{knob}={_short(value)} {problem}. Set it to {setting.words}.")


def check_encoding(knob: str, value: Any) -> None:
  """Raises ValueError naming the knob for a text that is not UTF-8.

  Names of files may be such texts.
  """
  if isinstance(value, tuple | list):
    for part in value:
      check_encoding(knob, part)
  elif isinstance(value, str | os.PathLike):
    try:
      os.fspath(value).encode()
    except UnicodeEncodeError as error:
      raise ValueError(
        f"{knob}={_short(value)} cannot be used: it is not UTF-8. Rename the file or folder."
      ) from error


def whole_number(low: int, high: int | None = None, also: Sequence[int | str] = ()) -> Setting:
  """A whole number from `low` to `high`, or one of `also`.

  high: LARGEST if it is None.
  """
  words = f"a whole number of {low} or more, below 2^31"
  if high is not None:
    words = f"a whole number from {low} to {high}"
  most = LARGEST if high is None else high
  if also:
    words += f", or to {' or '.join(map(str, also))}"

  def fits(value) -> bool:
    if value in also:
      return not isinstance(value, bool)
    if not _is_number(value, numbers.Integral):
      return False
    return low <= value <= most

  return Setting(words, fits)


def number(
  low: float = 0.0, high: float = math.inf, above: bool = False, below: bool = False
) -> Setting:
  """A finite number from `low` to `high`.

  With `above` or `below`, that end itself is not allowed.
  """
  words = f"a number above {low:g}" if above else f"a number of {low:g} or more"
  if high != math.inf:
    words += f", below {high:g}" if below else f", at most {high:g}"

  def fits(value) -> bool:
    if not _is_number(value, numbers.Real):
      return False
    if not math.isfinite(value):
      return False
    if value < low or value > high:
      return False
    return not (above and value == low) and not (below and value == high)

  return Setting(words, fits)


def one_of(*names: str) -> Setting:
  """One of these words."""
  words = [name or '""' for name in names]
  return Setting(f"one of {', '.join(words)}", lambda value: value in names)


def rows_of(
  words: str, fits: Callable[[Sequence], bool], limit: int | None = None, empty: bool = False
) -> Setting:
  """A tuple or list of up to `limit` entries that all fit.

  Lists are accepted because JSON has no tuples.
  """

  def all_fit(value) -> bool:
    if not isinstance(value, (tuple, list)) or not (value or empty):
      return False
    if limit is not None and len(value) > limit:
      return False
    return all(map(fits, value))

  return Setting(words, all_fit)


def _is_number(value, kind: type) -> bool:
  """Whether a value is a number of this kind, not a bool."""
  return isinstance(value, kind) and not isinstance(value, bool)


def _is_text(value) -> bool:
  return isinstance(value, str) and "\0" not in value


def _is_path(value) -> bool:
  return _is_text(value) or isinstance(value, os.PathLike)


def is_file(value) -> bool:
  """A path that is not empty."""
  return _is_path(value) and bool(value)


def is_mixture_entry(entry) -> bool:
  """(manifest, strategy) of config.data.train."""
  manifest, strategy = _sequence(entry)
  return bool(manifest) and _is_path(manifest) and _STRATEGY.fullmatch(strategy) is not None


def is_row(entry) -> bool:
  """(frames, images, positions, samples) of config.data.rows."""
  frames, images, positions, samples = _sequence(entry)
  return (
    whole_number(0).fits(frames)
    and whole_number(0).fits(images)
    and whole_number(1).fits(positions)
    and whole_number(1).fits(samples)
  )


def is_rule(entry) -> bool:
  """(regex, value) of config.optim.rates and .decay."""
  regex, value = _sequence(entry)
  try:
    re.compile(regex)
  except re.error:
    return False
  return number(0).fits(value)


def is_rank(entry) -> bool:
  """(regex, rank) of config.lora.ranks."""
  return is_rule(entry) and whole_number(0).fits(_sequence(entry)[1])


def is_evaluation(entry) -> bool:
  """(manifest or benchmark, every, limit[, data[, protocol]]) of config.evals."""
  name, every, limit, *texts = _sequence(entry)
  if len(texts) > 2 or not all(map(_is_path, texts)):
    return False
  return is_file(name) and whole_number(1).fits(every) and whole_number(0).fits(limit)


def is_score_name(value) -> bool:
  """The score of config.best, or an empty text."""
  return isinstance(value, str) and (not value or _SCORE.fullmatch(value) is not None)


def is_step_range(value) -> bool:
  """FIRST:STOP of config.profile, or an empty text."""
  if not isinstance(value, str):
    return False
  if not value:
    return True
  first, _, stop = value.partition(":")
  return first.isdecimal() and stop.isdecimal() and 1 <= int(first) < int(stop)


def _sequence(entry) -> Sequence:
  if not isinstance(entry, (tuple, list)):
    raise TypeError("no tuple")
  return entry


TEXT = Setting("a text", _is_text)
PATH = Setting('a path, or "" for none', _is_path)
NAME = Setting("a name", lambda value: _is_text(value) and bool(value))
FLAG = Setting("True or False", lambda value: isinstance(value, bool))


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 200 else f"{text[:200]}…"
