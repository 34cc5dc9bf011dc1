# SPDX-License-Identifier: Apache-2.0
"""Every file that a document names exists."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = (
  "benchmarks",
  "configs",
  "data_pipelines",
  "docs",
  "examples",
  "filax",
  "launch",
  "tests",
)
DOCUMENTS = sorted(
  path.relative_to(ROOT)
  for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "*/README.md", "*/*/README.md")
  for path in ROOT.glob(pattern)
  if not path.parent.is_symlink() and path.relative_to(ROOT).parts[0] in (*FOLDERS, path.name)
)
NAMED = re.compile(r"(?<![\w/:.{}$-])\w[\w/.-]*\.(?:py|sh|md|yaml)\b")
# Names of files that the reader is to make, or that commands write.
OTHERS = {"F.py", "mine.py", "results.md", "run_torch.py"}


def existing_files() -> set[str]:
  files = {path.name for path in ROOT.iterdir() if path.is_file()}
  for folder in FOLDERS:
    files |= {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.*")}
  return files


FILES = existing_files()
ENDINGS = {
  "/".join(file.split("/")[start:]) for file in FILES for start in range(file.count("/") + 1)
}


def named_files(document: pathlib.Path) -> set[str]:
  names = set()
  for name in NAMED.findall((ROOT / document).read_text()):
    is_made = name.startswith("generated/")  # When the site is built.
    if not is_made and pathlib.PurePath(name).name not in OTHERS:
      names.add(name)
  return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_files_of_a_document_exist(document):
  """A name is a path from the root, or the end of one: tables name files of their own folder."""
  missing = sorted(named_files(document) - ENDINGS)
  assert not missing, f"{document} names files that do not exist: {', '.join(missing)}"


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_paths_of_folders_exist(document):
  folders = re.findall(r"`((?:\w+/)+)`", (ROOT / document).read_text())
  missing = sorted({folder for folder in folders if not (ROOT / folder).is_dir()})
  assert not missing, f"{document} names folders that do not exist: {', '.join(missing)}"


def test_documents_name_many_files():
  count = sum(len(named_files(document)) for document in DOCUMENTS)
  assert count > 100, f"only {count} names were found: the pattern reads too little"
