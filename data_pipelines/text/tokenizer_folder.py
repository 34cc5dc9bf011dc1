# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in the folder of a checkpoint."""

import pathlib

from data_pipelines.text import tokenizers


def load_if_present(folder: pathlib.Path) -> tokenizers.Tokenizer | None:
  """The tokenizer in a folder; None if there is none.

  Raises ValueError for a damaged tokenizer.
  """
  for pattern in ("tokenizer.json", "*.model"):
    if any(file.is_file() for file in folder.glob(pattern)):
      return tokenizers.load_tokenizer(folder)
  return None
