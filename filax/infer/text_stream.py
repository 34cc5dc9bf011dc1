# SPDX-License-Identifier: Apache-2.0
"""Text of an answer while its tokens arrive."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # What tokenizers write for the first bytes of a letter.
_WINDOW = 64  # Ids that are decoded together, so that a long answer costs no more a token.
_OVERLAP = 16  # The last of them, with which the next window begins.


class TextStream:
  """Turns growing token ids into pieces of text without broken letters.

  The pieces together are `decode(ids).strip()`. A letter of several tokens is held back until it is
  complete, and white space until a letter follows it. The text ends before the first of the stop
  strings (or the only one; None for none), wherever tokens begin and end; what may be the beginning
  of one is held back. Raises ValueError for an empty stop string, which would end every answer at
  once, and for one that is no text.
  """

  def __init__(
    self,
    decode: Callable[[Sequence[int]], str],
    stop_strings: Sequence[str] | str | None = None,
  ):
    self._decode = decode
    is_single = isinstance(stop_strings, str)
    self._stop_strings = (str(stop_strings),) if is_single else tuple(stop_strings or ())
    for stop in self._stop_strings:
      if not isinstance(stop, str) or not stop:
        raise ValueError(f"A stop string is {stop!r}, but must be a text, and must not be empty.")
    self._longest_stop = max(map(len, self._stop_strings), default=0)
    self._ids: list[int] = []
    self._settled = ""  # Text of the ids before `_first`.
    self._first = 0
    self._text = ""  # Given so far.
    self.stopped = False  # Whether a stop string has ended the text.

  @property
  def text(self) -> str:
    """The text given so far."""
    return self._text

  def add_ids(self, ids: Sequence[int]) -> str:
    """The text that these ids complete; may be empty."""
    if self.stopped:
      return ""
    self._ids += ids
    text = self._whole_text().lstrip()
    text = self._before_stop(text.rstrip(INCOMPLETE))
    if not self.stopped:
      text = text[: len(text) - self._held_back(text)]
    return self._advance(text.rstrip())

  def finish(self) -> str:
    """The rest of the text, at the end of the ids."""
    if self.stopped:
      return ""
    return self._advance(self._before_stop(self._decode(self._ids).strip()).rstrip())

  def _whole_text(self) -> str:
    """The text of all ids, of which only the last are decoded.

    A window begins again where the text of its last ids alone is the end of its text.
    """
    window = self._decode(self._ids[self._first :])
    text = self._settled + window
    first = len(self._ids) - _OVERLAP
    if first - self._first < _WINDOW:
      return text
    end = self._decode(self._ids[first:])
    if end.strip(INCOMPLETE) == end and window.endswith(end):
      self._settled = text[: len(text) - len(end)]
      self._first = first
    return text

  def _before_stop(self, text: str) -> str:
    """The text up to the first stop string.

    Sets `stopped` if there is one. The text that was given holds none, so it is not searched again.
    """
    first = max(0, len(self._text) - self._longest_stop)
    places = []
    for stop in self._stop_strings:
      place = text.find(stop, first)
      if place >= 0:
        places.append(place)
    if not places:
      return text
    self.stopped = True
    return text[: min(places)]

  def _held_back(self, text: str) -> int:
    """The number of last letters that may begin a stop string."""
    held = 0
    for stop in self._stop_strings:
      end = text[max(0, len(text) - len(stop) + 1) :]
      place = end.find(stop[0])
      while place >= 0 and not stop.startswith(end[place:]):
        place = end.find(stop[0], place + 1)
      if place >= 0:
        held = max(held, len(end) - place)
    return held

  def _advance(self, text: str) -> str:
    """What `text` adds to the text given.

    Nothing if it does not continue that text.
    """
    if not text.startswith(self._text):
      return ""
    piece = text[len(self._text) :]
    self._text = text
    return piece
