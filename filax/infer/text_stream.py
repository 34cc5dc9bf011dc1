# SPDX-License-Identifier: Apache-2.0
"""Text of an answer while its tokens arrive."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # What tokenizers write for the first bytes of a letter.


class TextStream:
  """Turns growing token ids into pieces of text without broken letters.

  The pieces together are `decode(ids).strip()`. A letter of several tokens is held back until it is
  complete, and white space until a letter follows it.
  """

  def __init__(self, decode: Callable[[Sequence[int]], str]):
    self._decode = decode
    self._ids: list[int] = []
    self._shown = ""

  def add_ids(self, ids: Sequence[int]) -> str:
    """The text that these ids complete; may be empty."""
    self._ids += ids
    text = self._decode(self._ids).lstrip()
    return self._advance(text.rstrip(INCOMPLETE).rstrip())

  def finish(self) -> str:
    """The rest of the text, at the end of the ids."""
    return self._advance(self._decode(self._ids).strip())

  def _advance(self, text: str) -> str:
    """What `text` adds to the text shown.

    Nothing if it does not continue that text.
    """
    if not text.startswith(self._shown):
      return ""
    piece = text[len(self._shown) :]
    self._shown = text
    return piece
