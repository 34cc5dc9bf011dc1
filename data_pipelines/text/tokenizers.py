# SPDX-License-Identifier: Apache-2.0
"""Loads tokenizers from `tokenizer.json`, sentencepiece `*.model`, or Qwen2's `merges.txt`.

`encode` handles ordinary text only: a control token's name in it ("<|im_end|>") is encoded letter
by letter. Control ids come from `special`, by name. Added words that are not special ("<t0>",
"<tool_call>") are ordinary text: `encode` gives one id for each, and `decode` restores it.
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

from data_pipelines.media import remote
from data_pipelines.text import tokenizer_merges
from data_pipelines.text.chat_template import ChatTemplate, read_chat_template
from data_pipelines.text.end_tokens import GENERATION, MODEL, SPECIAL, EndToken, end_tokens
from data_pipelines.text.tokenizer import CONFIG, CONTROLS, PADS, STOPS, Tokenizer
from data_pipelines.text.tokenizer_json import JsonTokenizer
from data_pipelines.text.tokenizer_sentencepiece import SentencePieceTokenizer, train_sentencepiece

JINJA = "chat_template.jinja"
_BESIDE = (CONFIG, JINJA, SPECIAL, GENERATION, MODEL)  # Files that are read with a tokenizer.
_LARGEST_CONFIG = 20_000_000  # Bytes of a tokenizer_config.json, which may list added tokens.
_POINTER = b"version https://git-lfs"  # What a clone without Git LFS has in place of a file.
_KINDS = "a tokenizer.json, a sentencepiece *.model, or a folder with one of them"

__all__ = [
  "CONTROLS",
  "PADS",
  "STOPS",
  "Tokenizer",
  "check_vocabulary",
  "load_tokenizer",
  "train_sentencepiece",
]


def load_tokenizer(path: str | os.PathLike, remedy: str = "") -> Tokenizer:
  """Loads a tokenizer from its file or folder.

  In a folder, tokenizer.json comes before *.model, and both before the vocab.json and merges.txt of
  Qwen2. Raises ValueError for a path without a tokenizer, or a damaged one. Its sentence ends in
  `remedy`, by default a remedy for training.
  """
  remedy = remedy or (
    f"Set config.data.tokenizer to {_KINDS}, or config.init_from to a model with a tokenizer."
  )
  if remote.is_remote(path):
    url = _url_of_file(str(path))
    if url:
      return _load_remote(url, remedy)
  path = pathlib.Path(path).expanduser()
  file: pathlib.Path | None = path
  if path.is_dir():
    file = tokenizer_file(path)
  if file is None or not file.is_file():
    raise ValueError(f"No tokenizer at {path}. {remedy}")
  kind = JsonTokenizer if file.suffix == ".json" else SentencePieceTokenizer
  try:
    content = file.read_bytes()
    if content.startswith(_POINTER):
      raise ValueError("it is a pointer of Git LFS, not the file: run `git lfs pull`")
    if tokenizer_merges.is_qwen2(file):
      content = tokenizer_merges.tokenizer_json(file)
    beside = {name: file.parent / name for name in _BESIDE}
    present = {name: path for name, path in beside.items() if path.is_file()}
    return kind(str(file), content, *_chat_and_ends(present))
  except Exception as error:  # The two libraries raise bare Exceptions of many kinds.
    reason = str(error) or type(error).__name__
    raise ValueError(f"The tokenizer {file} cannot be read ({reason}). {remedy}") from error


def tokenizer_file(folder: pathlib.Path) -> pathlib.Path | None:
  """The file of a folder's tokenizer; None without one."""
  for pattern in ("tokenizer.json", "*.model"):
    for file in sorted(folder.glob(pattern)):
      if file.is_file():
        return file
  vocabulary = folder / tokenizer_merges.VOCABULARY
  return vocabulary if tokenizer_merges.is_qwen2(vocabulary) else None


def set_to(knob: str) -> str:
  """What to do about the tokenizer that `knob` names.

  knob: an option, or a key of the config.
  """
  return f"Set {knob} to {_KINDS}."


def _url_of_file(url: str) -> str:
  """The URL of a tokenizer's file in a bucket, or "".

  It is the given URL, or that of a file in a folder as runs write it.
  """
  for candidate in (url, f"{url}/tokenizer.json", f"{url}/tokenizer.model"):
    if remote.is_file(candidate):
      return candidate
  return ""


def _load_remote(path: str, remedy: str) -> Tokenizer:
  """The tokenizer of an object in a bucket.

  The files beside it that hold its chat template and its end tokens are read, too.
  """
  tokenizer = load_tokenizer(remote.local_path(path), remedy)
  beside = path.rpartition("/")[0]
  local = {}
  for name in _BESIDE:
    if remote.is_file(f"{beside}/{name}"):
      local[name] = pathlib.Path(remote.local_path(f"{beside}/{name}"))
  return type(tokenizer)(tokenizer.path, tokenizer.content, *_chat_and_ends(local))


def _chat_and_ends(
  present: Mapping[str, pathlib.Path],
) -> tuple[ChatTemplate | None, tuple[EndToken, ...]]:
  """The chat template and the end tokens of a tokenizer.

  They are read from the files beside it.

  Raises ValueError naming a damaged file.
  """
  documents: dict[str, Any] = {}
  for name, path in present.items():
    if name == JINJA:
      continue
    try:
      documents[name] = json.loads(_limited_text(path))
    except ValueError as error:
      if name != MODEL:  # The reader of the model says what is wrong with its config.json.
        raise ValueError(f"{name} beside it: {error}") from error
  source = _limited_text(present[JINJA]) if JINJA in present else ""
  config = documents.get(CONFIG)
  template = read_chat_template(config if isinstance(config, dict) else {}, source)
  return template, end_tokens(documents)


def _limited_text(path: pathlib.Path) -> str:
  """The text of a small file. Raises ValueError for a large one."""
  if path.stat().st_size > _LARGEST_CONFIG:
    raise ValueError(f"{path.name} has more than {_LARGEST_CONFIG:,} bytes")
  return path.read_text(encoding="utf-8")


def check_vocabulary(tokenizer: Tokenizer, rows: int):
  """Raises ValueError if the embedding has too few rows for the ids.

  rows: embedding rows of the model.
  """
  remedy = (
    f"Set config.data.tokenizer to the llm's own, or config.model.llm.variant to one with at "
    f"least {tokenizer.vocab_size} rows."
  )
  tokenizer.check_rows(rows, remedy)
