# SPDX-License-Identifier: Apache-2.0
"""Checks of records that need no provenance: they hold for any multiple-choice manifest."""

from collections.abc import Sequence
import pathlib
import re

from data_pipelines.sample import Sample, Scene
from data_pipelines.synthesis.verify.asked import NOT_GIVEN, ORDER_TASKS, AskedQuestion, normal
from data_pipelines.synthesis.verify.verdicts import Verdicts

LEAST_WORDS = 2  # A shorter answer stands in a question by chance ("red", "2").
NEAR = 0.002  # Seconds by which times may differ after rounding.
# "What happens after X?", "after \"X\"", "after X, what ...": the group is X.
_NEIGHBOUR = re.compile(
  r"\b(?:after|before|following|precedes|preceding|follows)\b[^\"\u201c]*?"
  r"(?:[\"\u201c](.+)[\"\u201d]|(?:this: |the event )?([^\",?]+)[,?])",
  re.IGNORECASE | re.DOTALL,
)


def check_media(sample: Sample, verdicts: Verdicts, is_relative: bool) -> None:
  """Paths stay inside their root; scenes of a timeline follow each other.

  is_relative: absolute paths fail too.
  """
  for timeline in sample.media:
    for scene in timeline:
      path = pathlib.PurePosixPath(scene.media.replace("\\", "/"))
      inside = ".." not in path.parts and not (is_relative and path.is_absolute())
      verdicts.expect("media_path", inside, "{} lies outside the root of the media", scene.media)
    if len(timeline) > 1:
      _check_timeline(timeline, verdicts)


def _check_timeline(timeline: Sequence[Scene], verdicts: Verdicts) -> None:
  end = 0.0
  for number, scene in enumerate(timeline, 1):
    reason = "scene {} begins at {} seconds, and the one before ends at {}"
    if not verdicts.expect("times", abs(scene.at - end) <= NEAR, reason, number, scene.at, end):
      return
    if scene.t1 is None:
      reason = "scene {} has no t1, so the following ones have no time"
      verdicts.expect("times", number == len(timeline), reason, number)
      return
    end = scene.at + scene.t1 - scene.t0


def check_question(question: AskedQuestion, verdicts: Verdicts) -> None:
  """Checks options, the answer among them, and leaks in the stem."""
  if question.options:
    _check_options(question, verdicts)
  if question.task in ORDER_TASKS or question.listed:
    return
  answer = normal(question.answer_text)
  if question.right != NOT_GIVEN or not question.options:
    gives_away = (
      len(answer.split()) >= LEAST_WORDS and f" {answer} " in f" {normal(question.stem)} "
    )
    reason = "the answer {} stands in the question"
    verdicts.expect("answer_in_stem", not gives_away, reason, question.answer_text)
  named = named_neighbour(question.stem)
  if named:
    reason = "the answer to what comes before or after {} is the same event"
    verdicts.expect("neighbour", normal(named) != answer, reason, named)


def _check_options(question: AskedQuestion, verdicts: Verdicts) -> None:
  texts = [" ".join(option.lower().split()).rstrip(".") for option in question.options]
  verdicts.expect("options", all(texts), "an option is empty: {}", question.options)
  is_distinct = len(set(texts)) == len(texts)
  verdicts.expect("options", is_distinct, "two options are the same: {}", question.options)
  is_named = question.right != NOT_GIVEN
  reason = "the answer {} names none of the {} options"
  verdicts.expect("right_option", is_named, reason, question.answer, len(texts))


def named_neighbour(stem: str) -> str:
  """The X of "what comes after X?" or "before X?", or ""."""
  match = _NEIGHBOUR.search(stem)
  return (match[1] or match[2]).strip() if match else ""
