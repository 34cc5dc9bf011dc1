# SPDX-License-Identifier: Apache-2.0
"""A Qwen2 tokenizer of vocab.json and merges.txt as a tokenizer.json.

Its slow form in transformers writes these files: many models that were trained with LLaVA-NeXT have
no others. They do not say how text is split into words, so the class in tokenizer_config.json must
be that of Qwen2.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from data_pipelines.text.tokenizer import CONFIG
from data_pipelines.text.word_borders import QWEN2_WORDS
from filax import files

VOCABULARY = "vocab.json"
_MERGES = "merges.txt"
_ADDED = "added_tokens.json"  # Token -> id, before tokenizer_config.json held them.
_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")

_BYTES = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
_SPLIT = dict(type="Split", pattern=dict(Regex=QWEN2_WORDS), behavior="Isolated", invert=False)


def is_qwen2(vocabulary: pathlib.Path) -> bool:
  """Whether a vocab.json is that of a Qwen2 tokenizer.

  Its merges must be beside it. In a bucket it is not: the other files are not copied with it.
  """
  folder = vocabulary.parent
  if vocabulary.name != VOCABULARY or files.is_bucket(vocabulary):
    return False
  if not vocabulary.is_file() or not (folder / _MERGES).is_file():
    return False
  try:
    return _read(folder / CONFIG).get("tokenizer_class") in _CLASSES
  except ValueError:
    return False


def tokenizer_json(vocabulary: pathlib.Path) -> bytes:
  """The content of the tokenizer.json that Qwen2's fast tokenizer would have.

  Raises ValueError for a file that cannot be read, or without added tokens.
  """
  folder = vocabulary.parent
  merges = (folder / _MERGES).read_text(encoding="utf-8").split("\n")
  if merges[0].startswith("#version"):
    merges = merges[1:]
  document = dict(
    version="1.0",
    truncation=None,
    padding=None,
    added_tokens=_added_tokens(folder),
    normalizer=dict(type="NFC"),
    pre_tokenizer=dict(type="Sequence", pretokenizers=[_SPLIT, _BYTES]),
    post_processor=None,
    decoder=_BYTES,
    model=dict(type="BPE", vocab=_read(vocabulary), merges=list(filter(None, merges))),
  )
  return json.dumps(document, ensure_ascii=False).encode()


def _added_tokens(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The added tokens in the order of their ids.

  Raises ValueError if there are none.
  """
  config = _read(folder / CONFIG)
  added: dict[int, dict[str, Any]] = {}
  for id, token in (config.get("added_tokens_decoder") or {}).items():
    added[int(id)] = dict(token, id=int(id))
  if not added:  # An older version of transformers wrote the files.
    special = config.get("additional_special_tokens") or ()
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    for content, id in _read(folder / _ADDED).items():
      added[id] = dict(id=id, content=content, special=content in special, **flags)
  if not added:
    raise ValueError(f"neither {CONFIG} nor {_ADDED} beside it lists the added tokens")
  return [added[id] for id in sorted(added)]


def _read(file: pathlib.Path) -> Mapping[str, Any]:
  """A JSON object; {} without the file. Raises ValueError for anything else."""
  if not file.is_file():
    return {}
  content = json.loads(file.read_text(encoding="utf-8"))
  if not isinstance(content, dict):
    raise ValueError(f"{file.name} beside it holds a {type(content).__name__}, not an object")
  return content
