# SPDX-License-Identifier: Apache-2.0
"""The steps of a document: its commands and its blocks of Python, in order, made small."""

from collections.abc import Iterator
import pathlib
import re

from cannot_run import reason_not_to_run
from document_blocks import DOCUMENTS, FENCE, read_document, whole_lines
from stand_ins import AFTER, EVERYWHERE, GIVEN, IN_DOCUMENTS, WRITTEN

Step = tuple[str, str]  # ("filax" | "bash" | "python" | "write", text)

# Documents whose commands another file of tests runs.
ELSEWHERE = ("README.md",)  # tests/test_readme.py
# Documents whose steps take minutes: make test-long runs them.
LONG = (
  "docs/evidence.md",
  "docs/evidence_learning.md",
  "docs/evidence_needles.md",
  "docs/evidence_results.md",
)


def source_steps(document: str) -> Iterator[Step]:
  """The steps as the document prints them, those that cannot run among them."""
  for match in FENCE.finditer(read_document(pathlib.Path(document))):
    indent, language, code = match[1], match[2], match[3]
    if language == "python":
      yield "python", re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
    elif language == "bash":
      for line in whole_lines(code):
        if line.strip() and not line.strip().startswith("#"):
          yield "bash", line.strip()


def made_small(document: str, text: str) -> str:
  """A text after the replacements that hold for its document."""
  for pattern, replacement in (*IN_DOCUMENTS.get(document, ()), *EVERYWHERE):
    text = re.sub(pattern, replacement, text)
  return text


def steps_to_run(document: str) -> list[Step]:
  """The steps that run, made small, with what the page gives in words."""
  steps: list[Step] = []
  if document in GIVEN:
    steps.append(("python", GIVEN[document]))
  for kind, text in source_steps(document):
    if kind == "python" and document in WRITTEN:
      name, command = WRITTEN[document]
      steps += [("write", f"{name}\n{text}"), ("filax", command)]
    elif kind == "python":
      steps.append((kind, made_small(document, text)))
    elif not reason_not_to_run(text):
      small = made_small(document, text)
      steps.append(("filax" if is_filax_alone(small) else "bash", small))
  if document in AFTER:
    steps.append(("python", AFTER[document]))
  return steps


def is_filax_alone(line: str) -> bool:
  """Whether a line is one command of filax, without pipes, redirections and further commands."""
  bare = re.sub(r"'[^']*'|\"[^\"]*\"| #.*", "", line)
  return bare.startswith("filax ") and not re.search("[|&;<>]", bare)


def documents_with_steps() -> list[str]:
  """The documents that have something to run."""
  names = []
  for document in map(str, DOCUMENTS):
    if document not in ELSEWHERE and any(
      not (kind == "bash" and reason_not_to_run(text)) for kind, text in source_steps(document)
    ):
      names.append(document)
  return names
