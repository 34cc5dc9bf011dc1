# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in the folder of a checkpoint."""

import pathlib

from data_pipelines.text import end_tokens, tokenizer, tokenizers

_REMEDY = "Put the whole tokenizer.json or *.model of the model in its place."


def load_if_present(folder: pathlib.Path, remedy: str = _REMEDY) -> tokenizers.Tokenizer | None:
  """The tokenizer in a folder; None if there is none.

  Raises ValueError, ending in `remedy`, for a damaged tokenizer.
  """
  file = tokenizers.tokenizer_file(folder)
  return None if file is None else tokenizers.load_tokenizer(file, remedy)


def remove_others(folder: pathlib.Path, saved: tokenizers.Tokenizer) -> None:
  """Removes the files of other tokenizers from a folder.

  saved: the tokenizer that was saved there last. Readers could prefer another one, or use its chat
  template or end tokens.
  """
  names = {tokenizers.JsonTokenizer.filename, tokenizers.SentencePieceTokenizer.filename}
  names.discard(saved.filename)
  if saved.chat is None:
    names.add(tokenizer.CONFIG)
  if not saved.ends:
    names.add(end_tokens.GENERATION)
  for name in names:
    (folder / name).unlink(missing_ok=True)
