# SPDX-License-Identifier: Apache-2.0
"""Parts of the prompts of benchmarks."""

from collections.abc import Sequence

from data_pipelines.text import templates
from filax.evals.kit import Example, Prompt
from filax.evals.metrics.options import LETTERS

ANSWER_WITH_LETTER = "Answer with the option's letter from the given choices directly."


def user_prompt(example: Example, text: str, answer_start: str = "") -> Prompt:
  """A prompt of one user turn that shows the example's media before a text."""
  turns = templates.question(text, len(example.media))
  return Prompt((*example.before, *turns), answer_start)


def option_lines(options: Sequence[str], label: str = "{}. ") -> str:
  """Every option on a line of its own, after its letter in a label."""
  lines = []
  for letter, option in zip(LETTERS, options, strict=False):
    lines.append(label.format(letter) + option)
  return "\n".join(lines)


def without_labels(options: Sequence[str], label: str = "{}. ") -> tuple[str, ...]:
  """Options without their labels, if every option has its own; else unchanged."""
  texts = []
  for letter, option in zip(LETTERS, options, strict=False):
    start = label.format(letter)
    if not option.startswith(start):
      return tuple(options)
    texts.append(option.removeprefix(start))
  return tuple(texts)
