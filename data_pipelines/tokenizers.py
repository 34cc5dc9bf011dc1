# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back, the same for `tokenizer.json` (tokenizers) and `*.model` (sentencepiece).

`encode` sees ordinary text only: what reads like a control token ("<|im_end|>") comes out as the
letters it is made of. Control ids are asked for by name, with `special`.
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
import functools
import hashlib
import json
import os
import pathlib

from filax import files

PADS = ("<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", "<unk>")  # The first that exists is the pad.
STOPS = ("<|im_end|>", "<|endoftext|>", "</s>", "<eos>", "<|eot_id|>")  # All that exist stop.
CONTROLS = ("<|im_start|>", "<|im_end|>")  # What train_sentencepiece adds; its pad is PADS[0].
_UNDERSCORE = "\u2581"  # Stands for a space in sentencepiece, so the letter itself needs care.


class Tokenizer(abc.ABC):
  """One tokenizer: `path` of its file, `vocab_size` (highest id + 1), `controls` (name -> id).

  A control token is every added, special or user-defined token of more than one character (single
  characters such as a user-defined newline are text). Picklable; thread-safe.
  """

  filename: str  # Under which `save` writes it.

  def __init__(self, path: str, content: bytes):
    self.path, self.content = path, content
    self._load(content)
    self._names = {id: name for name, id in self.controls.items()}

  def __reduce__(self):
    return type(self), (self.path, self.content)

  @functools.cached_property
  def fingerprint(self) -> str:
    """sha256 of the file's bytes."""
    return hashlib.sha256(self.content).hexdigest()

  @property
  def pad_id(self) -> int:
    """The id that fills places without a token; 0 for a tokenizer that names none."""
    return next((self.controls[name] for name in PADS if name in self.controls), 0)

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """The ids that end an answer."""
    return tuple(self.controls[name] for name in STOPS if name in self.controls)

  def special(self, name: str) -> int:
    """The id of a control token. Raises ValueError if there is none of this name."""
    if name not in self.controls:
      raise ValueError(
        f"The tokenizer {self.path} has no control token {name!r}. Set config.data.tokenizer to "
        f"one that has it, or config.data.template to one that needs none (plain).")
    return self.controls[name]

  def encode(self, text: str) -> list[int]:
    """The ids of ordinary text; never the id of a control token (but for an unknown letter's id,
    in vocabularies that have no bytes)."""
    return self._encode(text.encode("utf-8", "replace").decode())  # Lone surrogates become "?".

  def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
    """The text of ids. Controls are left out or written by name; ids past the end are left out."""
    return "".join(
      self._decode(run) if name is None else "" if skip_special else name
      for name, run in self._runs(ids))

  def save(self, folder: str | os.PathLike) -> str:
    """Writes the tokenizer's file into a folder, byte for byte; returns its path."""
    target = pathlib.Path(folder) / self.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(self.content)
    return str(target)

  def _runs(self, ids: Iterable[int]) -> Iterator[tuple[str | None, list[int]]]:
    """Splits ids into (None, ordinary ids) and (name, [control id])."""
    run: list[int] = []
    for id in map(int, ids):
      if id in self._names:
        yield None, run
        yield self._names[id], [id]
        run = []
      elif 0 <= id < self.vocab_size:
        run.append(id)
    yield None, run

  @abc.abstractmethod
  def _load(self, content: bytes): ...

  @abc.abstractmethod
  def _encode(self, text: str) -> list[int]: ...

  @abc.abstractmethod
  def _decode(self, ids: list[int]) -> str: ...


class _Json(Tokenizer):
  """A tokenizer.json. Text is encoded by a copy that has no added tokens at all."""

  filename = "tokenizer.json"

  def _load(self, content: bytes):
    import tokenizers

    data = json.loads(content)
    added = {token["content"]: token["id"] for token in data.get("added_tokens") or ()}
    self.controls = {name: id for name, id in added.items() if len(name) > 1}
    self._full = tokenizers.Tokenizer.from_str(content.decode())
    bare = dict(added_tokens=[], post_processor=None, truncation=None, padding=None)
    self._bare = tokenizers.Tokenizer.from_str(json.dumps(data | bare))
    unknown = data["model"].get("unk_token")  # What an unknown word becomes: not refused.
    self._refused = frozenset(id for name, id in self.controls.items() if name != unknown)
    self.vocab_size = 1 + max(self._full.get_vocab(with_added_tokens=True).values())

  def _encode(self, text: str) -> list[int]:
    encoding = self._bare.encode(text, add_special_tokens=False)
    if self._refused.isdisjoint(encoding.ids):
      return encoding.ids
    # The base vocabulary holds the name as a word (WordLevel, ignore_merges): cut it open.
    start, end = next(
      span for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id in self._refused)
    if end - start < 2:  # One letter that a normaliser made into the name.
      return [id for id in encoding.ids if id not in self._refused]
    return self._encode(text[:start + 1]) + self._encode(text[start + 1:])

  def _decode(self, ids: list[int]) -> str:
    return self._full.decode(ids, skip_special_tokens=False) if ids else ""


class _SentencePiece(Tokenizer):
  """A sentencepiece model. Text is encoded by a copy whose user-defined symbols never match."""

  filename = "tokenizer.model"

  def _load(self, content: bytes):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    self.controls = {}
    for id, piece in enumerate(model.pieces):
      if piece.type == kinds.USER_DEFINED and len(piece.piece) > 1:
        piece.type = kinds.CONTROL  # Text cannot match a control symbol.
      if piece.type in (kinds.CONTROL, kinds.UNKNOWN):
        self.controls[piece.piece] = id
    self.vocab_size = len(model.pieces)
    self._unknown = next(i for i, p in enumerate(model.pieces) if p.type == kinds.UNKNOWN)
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    bytes_of = [f"<0x{byte:02X}>" for byte in _UNDERSCORE.encode()]
    pieces = [self._processor.piece_to_id(name) for name in bytes_of]
    exact = not model.normalizer_spec.add_dummy_prefix and self._unknown not in pieces
    self._underscore = pieces if exact else None

  def _encode(self, text: str) -> list[int]:
    if self._underscore is None:
      return self._processor.encode(text)
    first, *rest = map(self._processor.encode, text.split(_UNDERSCORE))
    return sum(([*self._underscore, *ids] for ids in rest), first)

  def _decode(self, ids: list[int]) -> str:
    return self._processor.decode(ids)


def load(path: str | os.PathLike) -> Tokenizer:
  """A tokenizer from its file, or from a folder that holds one (tokenizer.json before *.model).

  Raises ValueError where there is none, or the file is not one.
  """
  path = pathlib.Path(path).expanduser()
  file = path
  if path.is_dir():
    file = next(iter([*path.glob("tokenizer.json"), *sorted(path.glob("*.model"))]), None)
  if file is None or not file.is_file():
    raise ValueError(
      f"No tokenizer at {path}. Set config.data.tokenizer to a tokenizer.json, a sentencepiece "
      f"*.model, or a folder with one of them.")
  kind = _Json if file.suffix == ".json" else _SentencePiece
  try:
    return kind(str(file), file.read_bytes())
  except Exception as error:  # The two libraries raise bare Exceptions of many kinds.
    raise ValueError(
      f"The tokenizer {file} cannot be read ({str(error) or type(error).__name__}). Set "
      f"config.data.tokenizer to a tokenizer.json or a sentencepiece *.model.") from error


def check_vocabulary(tokenizer: Tokenizer, rows: int):
  """Raises ValueError if the model's `rows` embedding rows do not cover the tokenizer's ids."""
  if tokenizer.vocab_size > rows:
    raise ValueError(
      f"The tokenizer {tokenizer.path} has ids up to {tokenizer.vocab_size - 1}, but the llm has "
      f"{rows} vocabulary rows. Set config.data.tokenizer to the llm's own, or "
      f"config.model.llm.variant to one with at least {tokenizer.vocab_size} rows.")


def train_sentencepiece(
    texts: Iterable[str], path: str | os.PathLike, vocab_size: int,
    controls: Sequence[str] = CONTROLS) -> Tokenizer:
  """Trains a byte-exact BPE model of at most `vocab_size` pieces and writes it to `path`.

  The pad is "<|endoftext|>", id 0. Every text comes back from its ids unchanged: no normalisation,
  spaces kept, bytes for unknown letters, digits single. The same texts give the same file. Raises
  ValueError for a vocabulary too small for the 256 bytes and the control tokens.
  """
  import sentencepiece

  least = 256 + len(controls) + 3
  if vocab_size < least:
    raise ValueError(
      f"A sentencepiece vocabulary of {vocab_size} is too small: 256 bytes and the control tokens "
      f"take {least}. Set vocab_size to more than that.")
  target = pathlib.Path(path)
  files.remove_leftovers(target.parent)
  with files.write_atomically(target) as file:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts), model_writer=file, vocab_size=vocab_size, model_type="bpe",
      normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
      byte_fallback=True, split_digits=True, character_coverage=1.0, hard_vocab_limit=False,
      user_defined_symbols=list(controls), pad_id=0, pad_piece=PADS[0], unk_id=1, bos_id=-1,
      eos_id=-1, num_threads=1, max_sentence_length=1 << 20, minloglevel=2)
  return load(target)
