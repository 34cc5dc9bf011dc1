# SPDX-License-Identifier: Apache-2.0
"""What keeps the code plain, read from the code: names that mean one thing, short files."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("filax", "data_pipelines", "benchmarks", "examples", "docs")
FILES = sorted(
  path
  for folder in FOLDERS
  for path in (ROOT / folder).rglob("*.py")
  if not path.is_relative_to(ROOT / "filax/configs")
)
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_WORDS_OF_A_FIRST_LINE = 12
MOST_HOMES = 3
# Methods of contracts (models/roles.py, train/hooks.py, evals/kit.py), and what all commands and
# configs have.
CONTRACTS = {
  *("main", "get_config"),
  *("setup", "embed", "blocks", "forward", "groups", "stages"),
  *("grid", "image_grid", "merge", "merge_images", "pool", "select", "flops"),
  *("begin", "step", "save", "end", "evaluate", "wants_state"),
  *("score", "average", "read_examples"),
  *("ask", "stream"),  # Of sessions, conversations, live sessions.
  "normalised",  # Of CausalAttention.
  *("read_tracks", "divide_reading", "list_slots", "add_parser"),
  *("as_dict", "lines"),  # Of reports: for JSON, and for people.
  *("close", "write"),  # Python's own, of streams and of what contextlib.closing takes.
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def nodes(kinds):
  """(file, node) of every definition of the product."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, kinds):
        yield path.relative_to(ROOT), node


def homes(kinds):
  """Public name -> the files that define it."""
  files = collections.defaultdict(set)
  for path, node in nodes(kinds):
    if not node.name.startswith("_"):
      files[node.name].add(str(path))
  return files


def test_a_public_class_name_means_one_thing():
  twice = {name: files for name, files in homes(ast.ClassDef).items() if len(files) > 1}
  assert not twice, f"Rename one of each: {twice}"


def test_function_names_tell():
  vague = {
    name: files
    for name, files in homes(FUNCTIONS).items()
    if len(files) > MOST_HOMES and name not in CONTRACTS
  }
  assert not vague, f"More than {MOST_HOMES} files define {vague}. Say what each one does."


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short(path):
  source = path.read_text()
  assert source.count("\n") <= MOST_LINES_OF_A_FILE, "Split it by component."
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, FUNCTIONS):
      lines = node.end_lineno - node.lineno + 1
      assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines: name its steps."


def test_docstrings_begin_with_a_short_line():
  long = []
  for path, node in nodes((ast.ClassDef, *FUNCTIONS)):
    line = (ast.get_docstring(node) or "").split("\n")[0]
    if "--" not in line and len(line.split()) > MOST_WORDS_OF_A_FIRST_LINE:
      long.append(f"{path} {node.name}: {line}")
  assert not long, "\n".join(long)


def test_files_of_tests_have_names_of_their_own():
  names: dict[str, list[str]] = {}
  for path in sorted((ROOT / "tests").rglob("test_*.py")):
    names.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
  twice = {name: paths for name, paths in names.items() if len(paths) > 1}
  assert not twice, f"pytest imports one file a name: {twice}"
