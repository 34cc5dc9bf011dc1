# SPDX-License-Identifier: Apache-2.0
"""The shipped configs are found from any folder, and beside a user's own package `configs`."""

import json
import pathlib
import subprocess
import sys

import pytest

from filax import shipped_configs

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["fila_toy", "fila_toy.py", "configs/fila_toy.py"])
def test_a_shipped_file_is_found_from_any_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = pathlib.Path(shipped_configs.find_file(name))
  assert path.samefile(ROOT / "configs/fila_toy.py")


@pytest.mark.parametrize("name", ["nothing", "configs/nothing.py", "mine/fila_toy.py", "/fila_toy"])
def test_other_names_stay(name):
  assert shipped_configs.find_file(name) == name


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "fila_toy.py").touch()
  assert shipped_configs.find_file("fila_toy.py") == "fila_toy.py"


def test_a_package_of_ones_own_takes_the_rest_from_filax(tmp_path):
  """A user's `configs/mine.py` may say `from configs import common`."""
  folder = tmp_path / "configs"
  folder.mkdir()
  (folder / "__init__.py").touch()
  (folder / "mine.py").write_text("from configs import common\nBATCH = common.base().batch\n")
  code = (
    "import json, sys\n"
    "sys.path.insert(0, '.')\n"
    "from filax import shipped_configs\n"
    "mine = shipped_configs.load_module('mine')\n"
    "print(json.dumps([mine.BATCH, sys.modules['configs'].__file__]))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
  )
  batch, file = json.loads(done.stdout)
  assert batch == 1
  assert pathlib.Path(tmp_path, file).samefile(folder / "__init__.py")
