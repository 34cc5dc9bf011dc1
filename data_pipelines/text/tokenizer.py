# SPDX-License-Identifier: Apache-2.0
"""The interface of tokenizers, and their control tokens."""

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

from data_pipelines.sample import IMAGE, VIDEO
from data_pipelines.text.chat_template import ChatTemplate
from data_pipelines.text.end_tokens import GENERATION, EndToken
from data_pipelines.text.word_counter import WordCounter
from filax import files

CONFIG = "tokenizer_config.json"  # Beside the tokenizer's file: its chat template.
PADS = ("<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", "<unk>")  # The first that exists is the pad.
STOPS = (  # All of these that exist end an answer.
  *("<|im_end|>", "<|endoftext|>", "</s>", "<eos>"),
  *("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),  # Llama 3.
)
CONTROLS = ("<|im_start|>", "<|im_end|>")  # Added by train_sentencepiece; its pad is PADS[0].
# Controls even in a vocabulary that added them as plain words: text must not be able to end a turn
# or insert a medium.
ALWAYS_CONTROLS = frozenset((*PADS, *STOPS, *CONTROLS, "<s>", "<bos>", IMAGE, VIDEO))

# Characters of the texts whose tokens are counted at a time. Meanwhile, a tokenizer holds up to 70
# bytes for each of them.
_BATCH = 1_000_000


class Tokenizer(abc.ABC):
  """One tokenizer.

  Attributes: `path` of its file, `chat` (its chat template, if it has one), `vocab_size` (highest
  id + 1), `controls` (name -> id). Control tokens are special tokens of more than one character,
  and the tokens of ALWAYS_CONTROLS. A sentencepiece model does not mark which of its user-defined
  symbols are special: there, symbols of the form "<|name|>" are. Picklable; thread-safe.
  """

  filename: str  # Under which `save` writes it.
  controls: dict[str, int]  # Set by `_load`, as is vocab_size.
  vocab_size: int
  divides = False  # Whether a text's ids are those of its words (see WordCounter), one by one.

  def __init__(
    self,
    path: str,
    content: bytes,
    chat: ChatTemplate | None = None,
    ends: Sequence[EndToken] = (),
  ):
    self.path = path
    self.content = content
    self.chat = chat
    self.ends = tuple(ends)  # End tokens that the files beside it name.
    self._load(content)
    self._words = WordCounter()
    self._names = {id: name for name, id in self.controls.items()}

  def __reduce__(self):
    return type(self), (self.path, self.content, self.chat, self.ends)

  @functools.cached_property
  def fingerprint(self) -> str:
    """sha256 of the file's bytes."""
    return hashlib.sha256(self.content).hexdigest()

  def fingerprint_with(self, template: str) -> str:
    """The fingerprint of what writes a conversation by config.data.template."""
    if template != "chat" or self.chat is None:
      return self.fingerprint
    return hashlib.sha256(f"{self.fingerprint} {self.chat.template_digest}".encode()).hexdigest()

  @property
  def pad_id(self) -> int:
    """The padding id; 0 by default."""
    for name in PADS:
      if name in self.controls:
        return self.controls[name]
    return 0

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """The ids that end an answer.

    They are those of STOPS, and those that the files beside the tokenizer name.
    """
    ids = [self.controls[name] for name in STOPS if name in self.controls]
    return tuple(dict.fromkeys((*ids, *self._end_ids())))

  def _end_ids(self) -> list[int]:
    """The ids of `ends` that exist."""
    ids = []
    for end in self.ends:
      id = self._id_of(end) if isinstance(end, str) else end
      if id is not None and 0 <= id < self.vocab_size:
        ids.append(id)
    return ids

  def special(self, name: str) -> int:
    """The id of a control token. Raises ValueError for an unknown name."""
    if name not in self.controls:
      raise ValueError(
        f"The tokenizer {self.path} has no control token {name!r}. Set config.data.tokenizer to "
        f"one that has it, or config.data.template to one that needs none (plain)."
      )
    return self.controls[name]

  def encode(self, text: str) -> list[int]:
    """The ids of ordinary text; never the id of a control token.

    In vocabularies without byte tokens, unknown letters become the unknown token.
    """
    return self._encode(sound_text(text))

  def count_texts(self, texts: Sequence[str]) -> list[int]:
    """The number of ids of every ordinary text.

    Equal words are counted once, if words are encoded independently of each other.
    """
    counts: list[int] = []
    for batch in _batches(texts):
      if self.divides:
        counts += self._words.count_by_words(batch, self._count_each)
      else:
        counts += self._count_each(batch)
    return counts

  def _count_each(self, texts: Sequence[str]) -> list[int]:
    """The number of ids of every text, each encoded as a whole."""
    return [len(self.encode(text)) for text in texts]

  def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
    """The text of ids.

    Controls are skipped or written by name; ids beyond the vocabulary are skipped.
    """
    text = []
    for name, run in self._runs(ids):
      if name is None:
        text.append(self._decode(run))
      elif not skip_special:
        text.append(name)
    return "".join(text)

  def save(self, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Copies the tokenizer's files into a folder; returns their paths.

    A chat template goes into tokenizer_config.json, and the end tokens of other files into
    generation_config.json, whose other entries stay.
    """
    folder = pathlib.Path(folder)
    target = folder / self.filename
    with files.write_atomically(target) as file:  # Others may read it meanwhile.
      file.write(self.content)
    saved = [target]
    if self.chat is not None:
      template = dict(chat_template=self.chat.source, **self.chat.names)
      saved.append(_update_settings(folder / CONFIG, template))
    if self._end_ids():
      saved.append(_update_settings(folder / GENERATION, dict(eos_token_id=self._end_ids())))
    return saved

  def check_rows(self, rows: int, remedy: str) -> None:
    """Checks the ids against a model's `rows` vocabulary rows.

    Raises ValueError, ending in `remedy`, if there are too few rows.
    """
    if self.vocab_size > rows:
      raise ValueError(
        f"The tokenizer {self.path} has ids up to {self.vocab_size - 1}, but the llm has {rows} "
        f"vocabulary rows. {remedy}"
      )

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
  def _id_of(self, token: str) -> int | None: ...

  @abc.abstractmethod
  def _encode(self, text: str) -> list[int]: ...

  @abc.abstractmethod
  def _decode(self, ids: list[int]) -> str: ...


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
  """The texts in batches of at most _BATCH characters.

  A longer text is a batch of its own.
  """
  batch: list[str] = []
  characters = 0
  for text in texts:
    if batch and characters + len(text) > _BATCH:
      yield batch
      batch = []
      characters = 0
    batch.append(text)
    characters += len(text)
  if batch:
    yield batch


def _update_settings(file: pathlib.Path, settings: Mapping[str, Any]) -> pathlib.Path:
  """Sets entries of a JSON file; the others stay. Returns its path."""
  content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
  text = json.dumps({**content, **settings}, indent=2, ensure_ascii=False)
  with files.write_atomically(file) as target:
    target.write(text.encode())
  return file


def sound_text(text: str) -> str:
  """A text with "?" for lone surrogates."""
  return text if text.isascii() else text.encode("utf-8", "replace").decode()
