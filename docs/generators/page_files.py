# SPDX-License-Identifier: Apache-2.0
"""Files of pages that are made."""

from collections.abc import Iterable
import pathlib


def update_page(path: pathlib.Path, lines: Iterable[str]) -> None:
  """Writes a page, unless it is there and the same.

  Sphinx reads only those pages again that have changed.
  """
  text = "\n".join(lines) + "\n"
  if path.exists() and path.read_text() == text:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
