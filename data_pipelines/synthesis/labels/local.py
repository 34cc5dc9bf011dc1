# SPDX-License-Identifier: Apache-2.0
"""Labels by a model in this process: any function from prompts to answers."""

from collections.abc import Callable, Iterable, Sequence

from data_pipelines.synthesis.labels.cache import AskAll, LabelModel

BATCH = 16  # Prompts answered together.

AnswerPrompts = Callable[[Sequence[str]], Sequence[str]]


def local_model(name: str, answer_prompts: AnswerPrompts, seed: int = 0) -> LabelModel:
  """A label model from a function that answers a batch of prompts.

  name: what identifies the model, such as the digest of its checkpoint.
  """
  return LabelModel("local", name, _in_batches(answer_prompts), seed)


def _in_batches(answer_prompts: AnswerPrompts) -> AskAll:
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
