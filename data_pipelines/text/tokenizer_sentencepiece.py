# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of a sentencepiece model, and their training."""

from collections.abc import Iterable, Sequence
import os
import pathlib
import re

from data_pipelines.text.tokenizer import (
  ALWAYS_CONTROLS,
  CONTROLS,
  PADS,
  Tokenizer,
  sound_text,
)
from filax.files import write_atomically

_UNDERSCORE = "\u2581"  # Stands for a space in sentencepiece, so the letter itself needs care.


class SentencePieceTokenizer(Tokenizer):
  """A sentencepiece model.

  Text is encoded by a copy whose control symbols never match.
  """

  filename = "tokenizer.model"

  def _load(self, content: bytes):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model_class = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]  # Made at import.
    model = model_class.FromString(content)
    kinds = model_class.SentencePiece
    self.controls = {}
    for id, piece in enumerate(model.pieces):
      if piece.type == kinds.USER_DEFINED and _looks_like_control(piece.piece):
        piece.type = kinds.CONTROL  # Text cannot match a control symbol.
      if piece.type in (kinds.CONTROL, kinds.UNKNOWN):
        self.controls[piece.piece] = id
    self.vocab_size = len(model.pieces)
    self._unknown = next(i for i, p in enumerate(model.pieces) if p.type == kinds.UNKNOWN)
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    pieces = []
    for byte in _UNDERSCORE.encode():
      pieces.append(self._processor.piece_to_id(f"<0x{byte:02X}>"))
    exact = not model.normalizer_spec.add_dummy_prefix and self._unknown not in pieces
    self._underscore = pieces if exact else None
    self.divides = exact and _keeps_words_apart(model)

  def _id_of(self, token: str) -> int | None:
    id = self._processor.piece_to_id(token)
    return id if self._processor.id_to_piece(id) == token else None  # Not that of <unk>.

  def _encode(self, text: str) -> list[int]:
    if self._underscore is None or _UNDERSCORE not in text:
      return self._processor.encode(text)
    first, *rest = text.split(_UNDERSCORE)
    ids = self._processor.encode(first)
    for part in rest:
      ids += self._underscore
      ids += self._processor.encode(part)
    return ids

  def _count_each(self, texts: Sequence[str]) -> list[int]:
    counts = [0] * len(texts)
    plain = []
    for number, text in enumerate(texts):
      if _UNDERSCORE in text:
        counts[number] = len(self.encode(text))
      else:
        plain.append(number)
    sound = [sound_text(texts[number]) for number in plain]
    for number, ids in zip(plain, self._processor.encode(sound, num_threads=1), strict=True):
      counts[number] = len(ids)
    return counts

  def _decode(self, ids: list[int]) -> str:
    return self._processor.decode(ids)


def _keeps_words_apart(model) -> bool:
  """Whether no token of a BPE model reaches over two words.

  model: a ModelProto. Merges of one word then do not depend on its neighbours. Unknown letters
  must be written as bytes, because several of them become one unknown token.
  """
  trainer = model.trainer_spec
  normalizer = model.normalizer_spec
  if trainer.model_type != trainer.BPE or not trainer.byte_fallback:
    return False
  if normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces:
    return False
  if not normalizer.escape_whitespaces or trainer.treat_whitespace_as_suffix:
    return False
  return all(_UNDERSCORE not in piece.piece.lstrip(_UNDERSCORE) for piece in model.pieces)


def _looks_like_control(symbol: str) -> bool:
  """Whether a user-defined symbol is a control, by its name."""
  return symbol in ALWAYS_CONTROLS or re.fullmatch(r"<\|.+\|>", symbol) is not None


def train_sentencepiece(
  texts: Iterable[str], path: str | os.PathLike, vocab_size: int
) -> Tokenizer:
  """Trains a byte-exact BPE model and writes it to `path`.

  vocab_size: the maximum number of pieces. The pad is "<|endoftext|>", id 0. Decoding restores
  every text exactly: no normalisation, spaces kept, bytes for unknown letters, single digits. The
  same texts give the same file. Raises ValueError for a vocabulary too small for the 256 bytes and
  the control tokens.
  """
  import sentencepiece

  smallest = 256 + len(CONTROLS) + 3
  if vocab_size < smallest:
    raise ValueError(
      f"A sentencepiece vocabulary of {vocab_size} is too small: 256 bytes and the control tokens "
      f"take {smallest}. Set vocab_size to more than that."
    )
  target = pathlib.Path(path)
  with write_atomically(target) as file:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts),
      model_writer=file,
      vocab_size=vocab_size,
      model_type="bpe",
      normalization_rule_name="identity",
      remove_extra_whitespaces=False,
      add_dummy_prefix=False,
      byte_fallback=True,
      split_digits=True,
      character_coverage=1.0,
      hard_vocab_limit=False,
      user_defined_symbols=list(CONTROLS),
      pad_id=0,
      pad_piece=PADS[0],
      unk_id=1,
      bos_id=-1,
      eos_id=-1,
      num_threads=1,
      max_sentence_length=1 << 20,
      minloglevel=2,
    )
  return SentencePieceTokenizer(str(target), target.read_bytes())
