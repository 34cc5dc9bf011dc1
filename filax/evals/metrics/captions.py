# SPDX-License-Identifier: Apache-2.0
"""Scores captions by text metrics.

The metrics are ROUGE-L of each caption, and BLEU-4 and CIDEr-D of a whole set. They are computed as
in the COCO caption evaluation, on lower-case words without punctuation. That evaluation splits
words with the Stanford tokenizer; its numbers may differ slightly where words are split otherwise
("it's").
"""

from collections.abc import Sequence
import dataclasses
import re

from filax.evals.kit import Example, Score
from filax.evals.metrics.averages import named_mean
from filax.evals.metrics.caption_overlap import cider_d, corpus_bleu, rouge_l
from filax.evals.metrics.open_answers import right_answers
from filax.evals.metrics.plain_text import spaced

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclasses.dataclass(frozen=True)
class CaptionOverlap:
  """ROUGE-L of captions; `references` is a column with further captions.

  `caption_scores` gives the scores of a whole set.
  """

  references: str = ""
  headline: str = "ROUGE-L"

  def score(self, text: str, example: Example) -> Score:
    """ROUGE-L against the answer and its further references."""
    words = caption_words(text)
    if not words:
      return Score(0.0, empty=not text.strip())
    references = list(map(caption_words, right_answers(example, self.references)))
    return Score(rouge_l(words, references), " ".join(words))

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """The mean ROUGE-L."""
    return named_mean(scores, self.headline)


def caption_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
  """BLEU-4, ROUGE-L and CIDEr-D of a set of captions.

  `references` has one or more captions per text. CIDEr-D needs several different references, since
  it weighs words by how rare they are among them. {} without texts.
  """
  if not texts:
    return {}
  captions = list(map(caption_words, texts))
  right_captions = []
  for group in references:
    right_captions.append(list(map(caption_words, group)))
  rouge = list(map(rouge_l, captions, right_captions))
  cider = cider_d(captions, right_captions)
  return {
    "BLEU-4": corpus_bleu(captions, right_captions),
    "ROUGE-L": sum(rouge) / len(rouge),
    "CIDEr-D": sum(cider) / len(cider),
  }


def caption_words(text: str) -> list[str]:
  """Lower-case words without punctuation."""
  return _WORD.findall(spaced(text.lower()))
