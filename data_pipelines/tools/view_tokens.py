# SPDX-License-Identifier: Apache-2.0
"""The tokens of a sample as pieces of text, control tokens and visuals."""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from data_pipelines.text.templates import Encoded
from data_pipelines.text.tokenizer import Tokenizer

_DAMAGED = "\N{REPLACEMENT CHARACTER}"  # Ends the text of a token that is part of a letter.
_MOST_OF_A_LETTER = 8  # Tokens.


@dataclasses.dataclass(frozen=True)
class Piece:
  """Neighbouring tokens of one kind.

  texts: what each token says (tokens that share a letter are one); for a visual, nothing.
  """

  kind: str  # text | control | visual
  learned: bool
  size: int  # Tokens.
  texts: tuple[str, ...] = ()
  visual: int = -1  # The number of the visual.


def token_pieces(encoded: Encoded, tokenizer: Tokenizer) -> Iterator[Piece]:
  """The pieces of a sample in order, with all its tokens."""
  names = {id: name for name, id in tokenizer.controls.items()}
  begins = {start: (number, stop) for number, (start, stop) in enumerate(encoded.spans)}
  position = 0
  while position < len(encoded.tokens):
    learned = bool(encoded.labels[position])
    id = int(encoded.tokens[position])
    if position in begins:
      number, stop = begins[position]
      yield Piece("visual", False, stop - position, visual=number)
    elif id in names:
      stop = position + 1
      yield Piece("control", learned, 1, (names[id],))
    else:
      stop = _end_of_text(encoded, position, begins.keys() | {len(encoded.tokens)}, names.keys())
      ids = encoded.tokens[position:stop].tolist()
      yield Piece("text", learned, len(ids), tuple(token_texts(tokenizer, ids)))
    position = max(stop, position + 1)


def _end_of_text(encoded: Encoded, start: int, ends: set[int], controls) -> int:
  """The end of the run of text with one label."""
  stop = start + 1
  while (
    stop not in ends
    and int(encoded.tokens[stop]) not in controls
    and encoded.labels[stop] == encoded.labels[start]
  ):
    stop += 1
  return stop


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
  """The text of each token.

  Tokens that share a letter come as one.
  """
  before: list[int] = []
  waiting: list[int] = []
  for id in ids:
    waiting.append(id)
    text = _text_after(tokenizer, before, waiting)
    if text.endswith(_DAMAGED) and len(waiting) < _MOST_OF_A_LETTER:
      continue
    yield text
    before = waiting
    waiting = []
  if waiting:
    yield _text_after(tokenizer, before, waiting)


def _text_after(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
  """The text of ids behind others.

  The first token of a text may lose its space.
  """
  return tokenizer.decode(before + ids)[len(tokenizer.decode(before)) :]


def learned_tokens(encoded: Encoded) -> int:
  """The number of tokens that are learned."""
  return int(np.count_nonzero(encoded.labels))
