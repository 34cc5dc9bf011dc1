# SPDX-License-Identifier: Apache-2.0
"""Documents of the project, their blocks of code, and the commands in them."""

from collections.abc import Iterator
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
PATTERNS = ("*.md", "docs/*.md", "*/README.md", "*/*/README.md")
DOCUMENTS = sorted(
  path.relative_to(ROOT)
  for pattern in PATTERNS
  for path in ROOT.glob(pattern)
  if not path.parent.is_symlink() and not path.relative_to(ROOT).parts[0].startswith(".")
)
FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"\w+=.*")
SEPARATORS = ("&&", "||", ";", "|", "&")


def read_document(document: pathlib.Path) -> str:
  """The text of a document, which is named relative to the root."""
  return (ROOT / document).read_text()


def blocks(text: str, language: str) -> list[str]:
  """The blocks of code in a language."""
  return [match[3] for match in FENCE.finditer(text) if match[2] == language]


def block_commands(text: str) -> Iterator[list[str]]:
  """The words of every command in the blocks of bash."""
  for block in blocks(text, "bash"):
    for line in whole_lines(block):
      yield from line_commands(line)


def whole_lines(block: str) -> Iterator[str]:
  """The lines of a block; those of a text in quotes together."""
  whole = ""
  for line in block.replace("\\\n", " ").splitlines():
    whole += line
    try:
      shlex.split(whole, comments=True)
    except ValueError:  # A quotation is open.
      whole += "\n"
      continue
    yield whole
    whole = ""
  if whole:
    yield whole


def line_commands(line: str) -> Iterator[list[str]]:
  """The words of the commands of a line, without settings of the environment."""
  words: list[str] = []
  for word in [*shlex.split(line, comments=True), ";"]:
    if word not in SEPARATORS:
      words.append(word)
      continue
    while words and ASSIGNMENT.fullmatch(words[0]):
      words.pop(0)
    if words:
      yield words
    words = []
