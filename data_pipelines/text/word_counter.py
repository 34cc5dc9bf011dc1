# SPDX-License-Identifier: Apache-2.0
"""Counts the tokens of many texts by their words.

A word begins with the spaces before it: "a red  car" is "a", " red" and "  car". Natural texts
repeat their words, so most words need no encoding. This is exact only for tokenizers that never
join a character and a space after it, and that encode each word by itself (Tokenizer.divides).
"""

from collections.abc import Callable, Sequence
import re

_REMEMBERED = 100_000  # Words, about 12 MB.
_LONGEST = 40  # Characters of a remembered word.
_BORDER = re.compile(r"(?<=\S)(?= )")  # Between two words.
_MARK = "\0"

CountEach = Callable[[Sequence[str]], list[int]]


class WordCounter:
  """Remembers the number of tokens of frequent words. Thread-safe."""

  def __init__(self):
    self._known: dict[str, int] = {}  # Never changed, but replaced by a larger one.

  def count_by_words(self, texts: Sequence[str], count_each: CountEach) -> list[int]:
    """The number of tokens of every text.

    count_each: gives the numbers of tokens of new words.
    """
    known = self._known
    words_of_text = list(map(_cut_at_spaces, texts))
    unknown = set().union(*words_of_text) - known.keys()
    loose = {word for word in unknown if _ends_in_space(word)}
    if loose:
      for number, words in enumerate(words_of_text):
        if not loose.isdisjoint(words[:-1]):
          words_of_text[number] = _BORDER.split(texts[number])
          unknown.update(words_of_text[number])
      unknown -= known.keys()
    if unknown:
      listed = list(unknown)
      fresh = dict(zip(listed, count_each(listed), strict=True))
      self._remember(known, fresh)
      known = known | fresh
    count_of = known.__getitem__
    return [sum(map(count_of, words)) for words in words_of_text]

  def _remember(self, known: dict[str, int], fresh: dict[str, int]) -> None:
    """Keeps new words for later texts, as long as there is room."""
    if len(known) >= _REMEMBERED:
      return
    larger = dict(known)
    for word, count in fresh.items():
      if len(word) <= _LONGEST and not _ends_in_space(word):
        larger[word] = count
    self._known = larger


def _cut_at_spaces(text: str) -> list[str]:
  """Cuts a text before every space.

  This is much faster than a regular expression. Where a space follows white space, the cut is
  wrong: then a word other than the last ends in white space.
  """
  if _MARK in text:
    return _BORDER.split(text)
  return text.replace(" ", f"{_MARK} ").split(_MARK)


def _ends_in_space(word: str) -> bool:
  return word[-1:].isspace()
