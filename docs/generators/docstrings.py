# SPDX-License-Identifier: Apache-2.0
"""Docstrings of FiLax as reStructuredText.

They are plain text: paragraphs, lists that begin with "- ", `code` in backticks, and indented
blocks that are examples or pictures.
"""

from collections.abc import Iterator, Sequence
import re
import textwrap

CODE = re.compile(r"`([^`]+)`")
MARKUP = re.compile(r"([\\*|_`])")
ITEM = re.compile(r"(- |\* |\d+\. )")
# The first words of a line that would begin markup: a directive, a field, a bullet, a letter as a
# number.
OPENING = re.compile(r"^(\.\. |:|[-+*>] |(?:[A-Za-z]|[ivxIVX]+)[.)] |__|--|==)")


def as_restructured_text(lines: Sequence[str]) -> list[str]:
  """The lines of a docstring as lines of reStructuredText."""
  text = textwrap.dedent("\n".join(lines)).strip("\n")
  written: list[str] = []
  for paragraph in re.split(r"\n\s*\n", text):
    written.extend(paragraph_lines(paragraph.rstrip().splitlines()))
    written.append("")
  return written


def paragraph_lines(lines: Sequence[str]) -> Iterator[str]:
  """A paragraph, a list, or a block of code."""
  if not lines:
    return
  if ITEM.match(lines[0]):
    yield from list_lines(lines)
    return
  indented = [line.startswith("  ") for line in lines]
  if all(indented):
    yield from literal_block(lines)
    return
  if any(indented):  # A text, then the block that it introduces.
    start = indented.index(True)
    yield from map(escaped_line, lines[:start])
    yield ""
    yield from literal_block(lines[start:])
    return
  yield from map(escaped_line, lines)


def list_lines(lines: Sequence[str]) -> Iterator[str]:
  """The items of a list, each on one line."""
  item = ""
  for line in lines:
    if ITEM.match(line):
      if item:
        yield item
      mark, _, text = line.partition(" ")
      item = f"{mark} {escaped(text)}"
    else:
      item += f" {escaped(line.strip())}"
  yield item


def literal_block(lines: Sequence[str]) -> Iterator[str]:
  """Lines that are shown as they are."""
  yield "::"
  yield ""
  for line in lines:
    yield f"  {line}" if line else ""


def escaped_line(line: str) -> str:
  """A line of a paragraph, which begins no markup."""
  line = line.rstrip()
  if line.endswith("::"):
    line = line.removesuffix(":")
  text = escaped(line)
  return f"\\{text}" if OPENING.match(text) else text


def escaped(text: str) -> str:
  """A text in which only `code` is markup."""
  pieces = []
  end = 0
  for match in CODE.finditer(text):
    pieces.append(MARKUP.sub(r"\\\1", text[end : match.start()]))
    pieces.append(inline_code(match[1]))
    end = match.end()
  pieces.append(MARKUP.sub(r"\\\1", text[end:]))
  return "".join(pieces)


def inline_code(code: str) -> str:
  """Code inside of a text.

  The escaped spaces let it stand beside a letter.
  """
  return f"\\ ``{code.strip()}``\\ "
