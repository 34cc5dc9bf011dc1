# SPDX-License-Identifier: Apache-2.0
"""Loads tokenizers from `tokenizer.json` or sentencepiece `*.model`.

`encode` handles ordinary text only: a control token's name in it ("<|im_end|>") is encoded letter
by letter. Control ids come from `special`, by name. Added words that are not special ("<t0>",
"<tool_call>") are ordinary text: `encode` gives one id for each, and `decode` restores it.
"""

import os
import pathlib

from data_pipelines.media import remote
from data_pipelines.text.tokenizer import CONTROLS, PADS, STOPS, Tokenizer
from data_pipelines.text.tokenizer_json import JsonTokenizer
from data_pipelines.text.tokenizer_sentencepiece import SentencePieceTokenizer, train_sentencepiece

__all__ = [
  "CONTROLS",
  "PADS",
  "STOPS",
  "Tokenizer",
  "check_vocabulary",
  "load_tokenizer",
  "train_sentencepiece",
]


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
  """Loads a tokenizer from its file or folder.

  In a folder, tokenizer.json comes before *.model. Raises ValueError for a path without a
  tokenizer, or a damaged one.
  """
  if remote.is_remote(path) and remote.is_file(path):
    path = remote.local_path(path)
  path = pathlib.Path(path).expanduser()
  file: pathlib.Path | None = path
  if path.is_dir():
    candidates = [*path.glob("tokenizer.json"), *sorted(path.glob("*.model"))]
    file = candidates[0] if candidates else None
  if file is None or not file.is_file():
    raise ValueError(
      f"No tokenizer at {path}. Set config.data.tokenizer to a tokenizer.json, a sentencepiece "
      f"*.model, or a folder with one of them."
    )
  kind = JsonTokenizer if file.suffix == ".json" else SentencePieceTokenizer
  try:
    return kind(str(file), file.read_bytes())
  except Exception as error:  # The two libraries raise bare Exceptions of many kinds.
    raise ValueError(
      f"The tokenizer {file} cannot be read ({str(error) or type(error).__name__}). Set "
      f"config.data.tokenizer to a tokenizer.json or a sentencepiece *.model."
    ) from error


def check_vocabulary(tokenizer: Tokenizer, rows: int):
  """Raises ValueError if the embedding has too few rows for the ids.

  rows: embedding rows of the model.
  """
  remedy = (
    f"Set config.data.tokenizer to the llm's own, or config.model.llm.variant to one with at "
    f"least {tokenizer.vocab_size} rows."
  )
  tokenizer.check_rows(rows, remedy)
