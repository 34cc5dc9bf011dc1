# SPDX-License-Identifier: Apache-2.0
"""Parts of the prompts of benchmarks: turns about one video, lettered options."""

from collections.abc import Sequence

from data_pipelines.sample import Turn
from filax.evals.kit import Example, Prompt
from filax.evals.metrics.options import LETTERS


def video_turn(text: str) -> Turn:
  """The user's turn: the video, a newline, the text."""
  return Turn("user", (0, f"\n{text}"))


def video_prompt(text: str, system: str = "", answer_start: str = "") -> Prompt:
  """A prompt about one video.

  system: "" leaves the system turn to the model's config.
  """
  user = video_turn(text)
  turns = (Turn("system", (system,)), user) if system else (user,)
  return Prompt(turns, answer_start)


def option_lines(options: Sequence[str], before: str, behind: str) -> str:
  """Lines of options without a final newline.

  The letter stands between `before` and `behind`: "(", ") " gives "(A) a dog".
  """
  lines = []
  for letter, option in zip(LETTERS, options, strict=False):
    lines.append(f"{before}{letter}{behind}{option}")
  return "\n".join(lines)


def question_text(example: Example) -> str:
  """The question of an example's turn, without its newline."""
  return example.turn.text.removeprefix("\n")
