# SPDX-License-Identifier: Apache-2.0
"""What an evaluation will take, estimated before it begins."""

from collections.abc import Sequence
import dataclasses
import statistics

from filax.evals import context
from filax.evals.evaluation import Evaluation
from filax.evals.kit import Example

SAMPLED = 50  # Prompts whose words are counted; the others are taken to be alike.


@dataclasses.dataclass(frozen=True)
class Cost:
  """The work of an evaluation, at most."""

  questions: int
  media: int
  frames: int
  visual_tokens: int
  prefill_tokens: int

  def __str__(self) -> str:
    return (
      f"{self.questions} questions about {self.media} media: at most {self.frames} frames to "
      f"decode, {self.visual_tokens} visual tokens to make, {self.prefill_tokens} tokens to prefill"
    )


def estimate(evaluation: Evaluation, groups: Sequence[Sequence[Example]]) -> Cost:
  """The work for questions about sets of media.

  Every video counts with the most frames that sampling takes.
  """
  frames = evaluation.loaded.processor.sampling.get("frames") or 0
  tokens = context.prompt_positions(evaluation.loaded.model, frames)
  media = 0
  prefilled = 0
  questions = 0
  for group in groups:
    media += len(group[0].media)
    prefilled += len(group) * len(group[0].media) * tokens
    questions += len(group)
  words = _mean_words(evaluation, groups)
  return Cost(
    questions=questions,
    media=media,
    frames=media * frames,
    visual_tokens=media * tokens,
    prefill_tokens=prefilled + round(words * questions),
  )


def _mean_words(evaluation: Evaluation, groups: Sequence[Sequence[Example]]) -> float:
  """The mean number of text tokens of a question."""
  encode = evaluation.loaded.processor.tokenizer.encode
  counts = []
  for group in groups[:SAMPLED]:
    question = group[0]
    text = "".join([question.turn.text, *question.options])
    counts.append(len(encode(text)))
  return statistics.fmean(counts) if counts else 0.0
