# SPDX-License-Identifier: Apache-2.0
"""Temporary folders of killed processes are removed by the next one."""

import os
import pathlib
import subprocess
import sys

import pytest

from data_pipelines.mapped import in_temporary_folder
from filax import temporary_folder
from filax.temporary_folder import TemporaryFolder

HOLDER = """
import os, pathlib, signal, sys
from data_pipelines.mapped import in_temporary_folder

class Table:
  def __init__(self, folder):
    (folder / "columns.npy").write_bytes(bytes(1000))

table = in_temporary_folder("filax-samples-", Table)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Table:
  def __init__(self, folder):
    self.folder = folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
  monkeypatch.setattr(temporary_folder.tempfile, "tempdir", str(tmp_path))
  return tmp_path


def test_tables_of_a_killed_process_are_removed(temporary):
  environment = os.environ | {"TMPDIR": str(temporary)}
  held = in_temporary_folder("filax-samples-", Table)
  killed = subprocess.run([sys.executable, "-c", HOLDER], env=environment, check=False)
  assert killed.returncode < 0 and len(list(temporary.iterdir())) == 2
  newest = in_temporary_folder("filax-samples-", Table)
  assert sorted(temporary.iterdir()) == sorted([held.folder, newest.folder])
  del held, newest
  assert not list(temporary.iterdir())


def test_what_is_not_a_leftover_stays(temporary):
  (temporary / "filax-rows-being-made").mkdir()
  (temporary / "mine").mkdir()
  (temporary / "mine/.lock").touch()
  with TemporaryFolder("filax-rows-") as folder:
    names = {path.name for path in temporary.iterdir()}
    assert names == {"filax-rows-being-made", "mine", folder.path.name}
    assert [path.name for path in pathlib.Path(folder.path).iterdir()] == [".lock"]


def test_without_locks_there_are_folders_all_the_same(temporary, monkeypatch):
  def refuse(file, mode):
    raise OSError("no locks available")

  monkeypatch.setattr(temporary_folder.fcntl, "flock", refuse)
  with TemporaryFolder("filax-rows-") as first, TemporaryFolder("filax-rows-") as second:
    assert first.path.exists() and second.path.exists()
