# SPDX-License-Identifier: Apache-2.0
"""Python in documents compiles and imports what exists; links lead to files; JSON is JSON."""

import ast
import importlib
import json
import pathlib
import re
import textwrap

from document_blocks import DOCUMENTS, FENCE, ROOT, blocks, read_document
import pytest

LINK = re.compile(r"\]\(([^)\s]+)\)")
OWN = ("filax", "data_pipelines", "configs", "benchmarks")
COMMAND = re.compile(r"^ {4,}(?:filax|python|pip|curl|launch/\S+) .*$", re.MULTILINE)
PLAIN_BLOCK = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")


def imported_names(code):
  """(module, name) of every import of the project."""
  for node in ast.walk(ast.parse(code)):
    if isinstance(node, ast.Import):
      yield from ((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_python_compiles_and_imports_what_exists(document):
  for code in blocks(read_document(document), "python"):
    compile(code, str(document), "exec")
    for module, name in imported_names(code):
      if module.partition(".")[0] not in OWN:
        continue
      home = importlib.import_module(module)
      if name is not None and not hasattr(home, name):
        importlib.import_module(f"{module}.{name}")  # Raises if it is not a module either.


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_json_is_json(document):
  for text in blocks(read_document(document), "json"):
    json.loads(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_to_files(document):
  text = CODE_SPAN.sub("", FENCE.sub("", read_document(document)))
  folder = (ROOT / document).parent
  broken = []
  for target in LINK.findall(text):
    path, _, _ = target.partition("#")
    is_generated = path.startswith("generated/") and document.parts[0] == "docs"
    if path and "://" not in path and not is_generated and not (folder / path).exists():
      broken.append(target)
  assert not broken, f"{document} links to what does not exist: {', '.join(broken)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_stand_in_blocks_that_tests_read(document):
  """Indented commands, and blocks without a language, would be read by no test."""
  text = FENCE.sub("", read_document(document))
  hidden = COMMAND.findall(text)
  for block in PLAIN_BLOCK.findall(text):
    hidden += COMMAND.findall(textwrap.indent(block, "    "))
  assert not hidden, f"{document} has commands outside of ```bash: {', '.join(hidden)}"


def test_included_files_exist():
  for document in DOCUMENTS:
    for name in re.findall(r"^```\{(?:literal)?include\} (\S+)", read_document(document), re.M):
      path = ROOT / pathlib.Path(document).parent / name
      assert path.is_file(), f"{document} includes {name}, which does not exist"


def test_every_page_stands_in_the_index():
  index = read_document("docs/index.md")
  entries = "\n".join(re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S)).split()
  pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
  missing = [page for page in sorted(pages) if not any(map(pathlib.PurePath(page).match, entries))]
  assert not missing, f"docs/index.md leads to no {', '.join(missing)}"
