# SPDX-License-Identifier: Apache-2.0
"""Real models and tokenizers that fetch_packages.py has fetched."""

import os
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
FOLDER = pathlib.Path(os.environ.get("FILAX_TEST_PACKAGES", _ROOT / ".venv" / "packages"))


def package(name: str) -> pathlib.Path:
  """A fetched file or folder; skips the test without it."""
  path = FOLDER / name
  if not path.exists():
    pytest.skip(f"{name} is not in {FOLDER}: python tests/fetch_packages.py {FOLDER}")
  return path
