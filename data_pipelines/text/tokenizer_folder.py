# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in the folder of a checkpoint."""

import pathlib

from data_pipelines.text import tokenizers


def load_if_present(folder: pathlib.Path) -> tokenizers.Tokenizer | None:
  """The tokenizer in a folder; None if there is none.

  Raises ValueError for a damaged tokenizer.
  """
  for pattern in ("tokenizer.json", "*.model"):
    for file in sorted(folder.glob(pattern)):
      if file.is_file():
        return tokenizers.load_tokenizer(file)
  return None
