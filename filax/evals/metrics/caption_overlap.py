# SPDX-License-Identifier: Apache-2.0
"""The overlap of captions with references.

ROUGE-L, BLEU-4 and CIDEr-D on lists of words.
"""

import collections
from collections.abc import Mapping, Sequence
import math

LONGEST = 4  # Words of the longest n-gram.
ROUGE_BETA = 1.2  # Recall counts beta**2 times as much as precision.
CIDER_SIGMA = 6.0  # Width of the penalty for another length, in words.
CIDER_SCALE = 10.0

Ngrams = collections.Counter[tuple[str, ...]]


def rouge_l(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
  """ROUGE-L: the F-measure of the longest common subsequence (Lin 2004).

  Over several references, the greatest precision and the greatest recall are taken.
  """
  precision = 0.0
  recall = 0.0
  for reference in references:
    if words and reference:
      common = _common_subsequence(words, reference)
      precision = max(precision, common / len(words))
      recall = max(recall, common / len(reference))
  if not precision or not recall:
    return 0.0
  weight = ROUGE_BETA**2
  return (1 + weight) * precision * recall / (recall + weight * precision)


def corpus_bleu(
  captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> float:
  """BLEU-4 of a set (Papineni et al. 2002).

  The length of the closest reference counts.
  """
  matches = [0] * LONGEST
  totals = [0] * LONGEST
  length = 0
  right_length = 0
  for words, group in zip(captions, references, strict=True):
    length += len(words)
    right_length += _closest_length(len(words), group)
    for size in range(1, LONGEST + 1):
      counts = ngrams(words, size)
      allowed: Ngrams = collections.Counter()
      for reference in group:
        allowed |= ngrams(reference, size)
      matches[size - 1] += (counts & allowed).total()
      totals[size - 1] += counts.total()
  if not all(matches):
    return 0.0
  logarithm = 0.0
  for match, total in zip(matches, totals, strict=True):
    logarithm += math.log(match / total) / LONGEST
  return math.exp(logarithm + min(0.0, 1 - right_length / length))


def cider_d(
  captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
  """CIDEr-D of every caption, 0 to 10 (Vedantam et al., arXiv:1411.5726)."""
  frequency: Ngrams = collections.Counter()  # n-gram -> captions whose references have it.
  for group in references:
    seen = set()
    for reference in group:
      seen.update(all_ngrams(reference))
    frequency.update(seen)
  logarithm = math.log(max(len(references), 1))
  scores = []
  for words, group in zip(captions, references, strict=True):
    total = 0.0
    for reference in group:
      total += _cider_similarity(words, reference, frequency, logarithm)
    scores.append(CIDER_SCALE * total / max(len(group), 1))
  return scores


def _cider_similarity(
  words: Sequence[str], reference: Sequence[str], frequency: Ngrams, logarithm: float
) -> float:
  """The mean over sizes of the clipped cosine of rarity-weighted counts."""
  difference = len(words) - len(reference)
  penalty = math.exp(-(difference**2) / (2 * CIDER_SIGMA**2))
  total = 0.0
  for size in range(1, LONGEST + 1):
    weights = _rarity_weights(ngrams(words, size), frequency, logarithm)
    right_weights = _rarity_weights(ngrams(reference, size), frequency, logarithm)
    product = 0.0
    for ngram, weight in weights.items():
      right_weight = right_weights.get(ngram, 0.0)
      product += min(weight, right_weight) * right_weight
    norm = math.hypot(*weights.values()) * math.hypot(*right_weights.values())
    if norm:
      total += penalty * product / norm
  return total / LONGEST


def _rarity_weights(
  counts: Ngrams, frequency: Mapping[tuple[str, ...], int], logarithm: float
) -> dict[tuple[str, ...], float]:
  """Counts, weighted by how rare an n-gram is among the references."""
  weights = {}
  for ngram, count in counts.items():
    weights[ngram] = count * (logarithm - math.log(max(1, frequency.get(ngram, 0))))
  return weights


def ngrams(words: Sequence[str], size: int) -> Ngrams:
  """Counts of the runs of `size` words."""
  starts = range(len(words) - size + 1)
  return collections.Counter(tuple(words[start : start + size]) for start in starts)


def all_ngrams(words: Sequence[str]) -> set[tuple[str, ...]]:
  """Runs of one to four words."""
  runs: set[tuple[str, ...]] = set()
  for size in range(1, LONGEST + 1):
    runs.update(ngrams(words, size))
  return runs


def _closest_length(length: int, references: Sequence[Sequence[str]]) -> int:
  """The reference length closest to a caption's; the shorter of equals."""
  lengths = sorted(len(reference) for reference in references)
  return min(lengths, key=lambda reference: abs(reference - length), default=0)


def _common_subsequence(words: Sequence[str], other: Sequence[str]) -> int:
  """The length of the longest common subsequence."""
  row = [0] * (len(other) + 1)
  for word in words:
    diagonal = 0
    for column, other_word in enumerate(other, start=1):
      above = row[column]
      row[column] = diagonal + 1 if word == other_word else max(above, row[column - 1])
      diagonal = above
  return row[-1]
