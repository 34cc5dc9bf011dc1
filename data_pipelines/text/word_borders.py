# SPDX-License-Identifier: Apache-2.0
"""Whether a tokenizer.json encodes the words of a text independently of each other."""

from collections.abc import Mapping, Sequence
from typing import Any

# The patterns of Qwen2 and Llama 3. None of their alternatives matches a space after another
# character than white space, and none looks at what is before it.
_PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
  r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = _PATTERN % r"\p{N}"
_PATTERNS = (QWEN2_WORDS, _PATTERN % r"\p{N}{1,3}")


def keeps_words_apart(data: Mapping[str, Any], plain_words: Sequence[Mapping[str, Any]]) -> bool:
  """Whether text can be cut before every space that follows another character.

  data: a tokenizer.json. plain_words: the added tokens that text may contain. False for what is
  not known to keep the words apart.
  """
  model = data["model"]
  normalizer = data.get("normalizer")
  if model.get("type") != "BPE" or model.get("dropout"):
    return False
  if normalizer is not None and normalizer["type"] != "NFC":
    return False
  if not all(map(_stays_in_word, plain_words)):
    return False
  steps = [data.get("pre_tokenizer") or {}]
  if steps[0].get("type") == "Sequence":
    steps = steps[0]["pretokenizers"]
  return all(map(_is_known, steps)) and any(map(_splits_words, steps))


def _stays_in_word(token: Mapping[str, Any]) -> bool:
  """Whether matching an added token does not depend on a neighbouring word."""
  depends = token.get("lstrip") or token.get("rstrip") or token.get("single_word")
  return not depends and " " not in token["content"]


def _is_known(step: Mapping[str, Any]) -> bool:
  if step.get("type") == "ByteLevel":
    return not step.get("add_prefix_space", True)
  return step.get("type") == "Digits" or _splits_words(step)


def _splits_words(step: Mapping[str, Any]) -> bool:
  """Whether a step splits text before the spaces of each word."""
  if step.get("type") == "ByteLevel":  # With the pattern of GPT-2.
    return step.get("use_regex", True)
  is_split = step.get("type") == "Split" and step.get("behavior") == "Isolated"
  return is_split and not step["invert"] and step["pattern"].get("Regex") in _PATTERNS
