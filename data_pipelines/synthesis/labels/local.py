# SPDX-License-Identifier: Apache-2.0
"""Labels by a model in this process.

The model is any function from prompts to answers.
"""

from collections.abc import Callable, Iterable, Sequence

from data_pipelines.synthesis.labels.cache import AskAll

BATCH = 16  # Prompts answered together.

AnswerPrompts = Callable[[Sequence[str]], Sequence[str]]


def in_batches(answer_prompts: AnswerPrompts) -> AskAll:
  """Asks a function for the answers to batches of prompts."""

  def ask_all(prompts: Sequence[str]) -> Iterable[tuple[int, str | None]]:
    for start in range(0, len(prompts), BATCH):
      answers = answer_prompts(prompts[start : start + BATCH])
      yield from enumerate(map(_json_part, answers), start)

  return ask_all


def _json_part(answer: str) -> str:
  """The object in an answer: small models write words around it."""
  begin = answer.find("{")
  end = answer.rfind("}")
  return answer[begin : end + 1] if 0 <= begin < end else answer
