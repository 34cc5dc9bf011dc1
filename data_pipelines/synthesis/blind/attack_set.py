# SPDX-License-Identifier: Apache-2.0
"""Runs all attacks on all tasks and sources, and compares their scores with chance."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from data_pipelines.synthesis.blind.learned import (
  affix_features,
  order_preferences,
  span_preferences,
  text_features,
  word_preferences,
)
from data_pipelines.synthesis.blind.preferences import RULES, Preferences, letter_rules, opposite
from data_pipelines.synthesis.verify.blind_pool import BlindPool, BlindQuestion

MARGIN = 0.1  # A score may exceed chance by this, or by 3 sigma if that is more.
_SIGMAS = 3


@dataclasses.dataclass(frozen=True)
class AttackScore:
  """The score of an attack on a group of questions."""

  attack: str
  score: float  # The share of right answers.
  applies: int  # Number of questions that the attack answers; the others count as guessed.
  is_above: bool  # Whether the score is above the limit.


@dataclasses.dataclass(frozen=True)
class AttackedGroup:
  """The questions of one task and source."""

  task: str
  source: str
  questions: int
  videos: int
  chance: float
  sigmas: float  # Three standard deviations of the score of guessing.
  limit: float  # The highest score that an attack may have.
  scores: Sequence[AttackScore]

  @property
  def name(self) -> str:
    """Task and source."""
    return " · ".join(filter(None, (self.task or "no task", self.source)))


@dataclasses.dataclass(frozen=True)
class AttackResult:
  """The scores of all groups."""

  groups: Sequence[AttackedGroup]

  @property
  def is_good(self) -> bool:
    """Whether no attack exceeds its limit."""
    for group in self.groups:
      if any(score.is_above for score in group.scores):
        return False
    return True

  def as_dict(self) -> dict[str, Any]:
    """The result for JSON."""
    return dict(good=self.is_good, groups=[dataclasses.asdict(group) for group in self.groups])

  def lines(self) -> Iterator[str]:
    """The scores as a table."""
    if not self.groups:
      yield "Blind: there are no multiple-choice questions."
    for group in self.groups:
      yield (
        f"Blind, {group.name}: {group.questions} questions of {group.videos} videos, chance "
        f"{group.chance:.1%}, 3 sigma {group.sigmas:.1%}, limit {group.limit:.1%}"
      )
      for score in group.scores:
        mark = "  ABOVE" if score.is_above else ""
        yield f"  {score.attack:<28} {score.score:>7.1%} {score.applies:>8}{mark}"


def attack_pool(pool: BlindPool) -> AttackResult:
  """Attacks the questions of every task and source.

  An attack succeeds above chance + the larger of 3 sigma and MARGIN.
  """
  groups = []
  for (task, source), questions in pool.groups().items():
    groups.append(attack_questions(task, source, questions))
  return AttackResult(groups)


def attack_questions(task: str, source: str, questions: Sequence[BlindQuestion]) -> AttackedGroup:
  """Attacks the questions of one group."""
  chances = np.array([1 / len(question.options) for question in questions])
  chance = float(chances.mean())
  sigmas = _SIGMAS * math.sqrt(float((chances * (1 - chances)).sum())) / len(questions)
  limit = chance + max(sigmas, MARGIN)
  scores = []
  for name, preferences in _all_preferences(questions):
    applies = sum(numbers is not None for numbers in preferences)
    if not applies:
      continue
    points = list(map(_points, questions, preferences))
    score = float(np.mean(points))
    scores.append(AttackScore(name, round(score, 6), applies, score > limit))
  videos = len({question.key for question in questions})
  return AttackedGroup(task, source, len(questions), videos, chance, sigmas, limit, scores)


def _all_preferences(
  questions: Sequence[BlindQuestion],
) -> Iterator[tuple[str, list[Preferences]]]:
  """(attack, its preferences) of every attack."""
  most = max(len(question.options) for question in questions)
  for name, rule in (letter_rules(most) | RULES).items():
    yield name, list(map(rule, questions))
  yield "words", word_preferences(questions)
  for name, features in (("order by words", text_features), ("order by affixes", affix_features)):
    preferences = order_preferences(questions, features)
    yield name, preferences
    yield f"against {name}", [opposite(numbers) for numbers in preferences]
  yield "time by words", span_preferences(questions)


def _points(question: BlindQuestion, preferences: Preferences) -> float:
  """The expected score of the preferred option.

  If several options have the highest preference, one of them is drawn.
  """
  count = len(question.options)
  if preferences is None:
    return 1 / count
  numbers = np.asarray(preferences, np.float64)
  best = numbers >= numbers.max() - 1e-12
  return float(best[question.right]) / float(best.sum())
