# SPDX-License-Identifier: Apache-2.0
"""The shipped configs are found from any folder, and beside a user's own package `configs`."""

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


@pytest.mark.parametrize(
  "name", [".", "nothing", "configs/nothing.py", "mine/fila_toy.py", "/fila_toy"]
)
def test_other_names_stay(name):
  assert shipped_configs.find_file(name) == name


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "fila_toy.py").touch()
  assert shipped_configs.find_file("fila_toy.py") == "fila_toy.py"


def run_python(code, folder):
  """What code prints, run in a folder that is on its path."""
  code = f"import sys; sys.path.insert(0, '.')\n{code}"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
  )
  return done.stdout.strip()


def write_own_package(folder, **modules):
  """A package `configs` of the user's own."""
  (folder / "configs").mkdir()
  for name, code in {"__init__": "", **modules}.items():
    (folder / "configs" / f"{name}.py").write_text(code)


def test_a_folder_with_the_name_of_a_shipped_config(tmp_path, monkeypatch):
  """As a workdir may be called."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "fila_toy").mkdir()
  assert pathlib.Path(shipped_configs.find_file("fila_toy")).samefile(ROOT / "configs/fila_toy.py")


def test_a_package_of_ones_own_takes_the_rest_from_filax(tmp_path):
  """A user's `configs/mine.py` may say `from configs import common`."""
  write_own_package(tmp_path, mine="from configs import common\nget_config = common.base\n")
  code = "import filax; print(filax.load_config('configs/mine.py').batch)"
  code += "\nimport configs.studies.common, configs; print(configs.__file__)"
  batch, file = run_python(code, tmp_path).splitlines()
  assert batch == "1"
  assert pathlib.Path(tmp_path, file).samefile(tmp_path / "configs/__init__.py")


MINE = """
from configs import common as ours
from filax.configs import fila_stage4

def get_config(arg=None):
  c = fila_stage4.get_config("debug")
  c.steps = ours.STEPS
  return c
"""


def test_a_common_of_ones_own_is_not_that_of_filax(tmp_path):
  write_own_package(tmp_path, common="STEPS = 3\n", mine=MINE)
  code = "import filax; print(filax.load_config('configs/mine.py').steps)"
  code += "\nprint(filax.load_config('fila_stage3').batch > 0)"
  assert run_python(code, tmp_path).split() == ["3", "True"]


def test_the_file_of_a_package_that_lacks_a_name_is_told(tmp_path):
  write_own_package(tmp_path, common="STEPS = 3\n", mine=MINE.replace("STEPS", "STEP"))
  code = "from filax.cli.main import main; sys.stderr = sys.stdout\n"
  code += "main(['show', '--config', 'configs/mine.py'])"
  printed = run_python(code, tmp_path)
  assert f"no attribute 'STEP' ({tmp_path}/configs/common.py). The configs of FiLax are" in printed


def test_an_unused_package_of_ones_own_is_not_imported(tmp_path):
  write_own_package(tmp_path, __init__="raise RuntimeError('not needed')")
  code = "import filax; print(filax.load_config('fila_toy').batch > 0)"
  assert run_python(code, tmp_path) == "True"
