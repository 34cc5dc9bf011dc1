# SPDX-License-Identifier: Apache-2.0
"""The names that `import filax` offers, what importing costs, and the example that shows them."""

import subprocess
import sys

import clips
import pytest
import small_checkpoint

import filax

HEAVY = ("jax", "flax", "numpy", "torch", "transformers", "orbax", "grain", "av", "tensorflow")


def test_importing_loads_nothing_heavy():
  check = f"import sys, filax; print([m for m in {HEAVY} if m in sys.modules])"
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
  check = (
    "import sys; from filax.cli.main import main; main([]); "
    f"print([m for m in {HEAVY} if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", filax.__all__)
def test_every_name_resolves_and_is_documented(name):
  found = getattr(filax, name)
  assert callable(found) and found.__doc__
  assert name in dir(filax)


def test_an_unknown_name_lists_the_known():
  with pytest.raises(AttributeError, match=r"filax has no 'lode'.*load"):
    _ = filax.lode


@pytest.mark.parametrize(
  "first", ["", "import filax.models.components", "from filax.models import components as build"]
)
def test_build_is_a_function_whatever_was_imported_before(first):
  call = "filax.models.components('selector', dict(name='uniform', size=5)).size"
  check = f"{first}\nimport filax; print({call})"
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "5"


def test_the_example_of_the_package_runs(tmp_path, monkeypatch, capsys):
  """The code of filax's docstring, on a tiny checkpoint and a real video."""
  monkeypatch.chdir(tmp_path)
  small_checkpoint.write(tmp_path / "runs" / "demo" / "stage2")
  clips.write(tmp_path / "lecture.mp4", 60)
  clips.manifest(
    tmp_path / "questions.json",
    [clips.record("What shape is on red?", "circle", video="lecture.mp4", kind="shape")],
  )
  _, _, code = filax.__doc__.partition("\n\n")
  names = {}
  exec(code, names)
  assert names["report"]["questions"] == 1
  assert len(names["scenes"]) == 2 and names["visual"].table.shape[0] == 1
