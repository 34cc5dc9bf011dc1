# SPDX-License-Identifier: Apache-2.0
"""Processes that build in one folder wait for each other, and say so if it takes long."""

import fcntl
import os
import threading

import pytest

from data_pipelines import mapped


@pytest.mark.parametrize(
  ("short", "printed"), [(60.0, ""), (0.0, "waiting for another process, which packs the rows\n")]
)
def test_only_a_wait_that_is_not_short_is_printed(short, printed, tmp_path, capsys, monkeypatch):
  """Each epoch packs rows: a line for every wait would fill the log."""
  monkeypatch.setattr(mapped, "_SHORT_SECONDS", short)
  other = os.open(tmp_path, os.O_RDONLY)
  fcntl.flock(other, fcntl.LOCK_EX)
  released = threading.Event()

  def release():
    released.set()
    os.close(other)

  threading.Timer(0.3, release).start()
  with mapped.one_builder(tmp_path, "packs the rows"):
    assert released.is_set()
  assert capsys.readouterr().err == printed


def test_folders_that_nobody_builds_in_are_forgotten(tmp_path):
  """Each object of a bucket is fetched into a folder of its own, millions in a long run."""
  for number in range(3):
    with mapped.one_builder(tmp_path / f"{number}", "fetches"):
      with mapped.one_builder(tmp_path / f"{number}", "fetches"):
        pass
      assert list(mapped._depths.values()) == [1]
      assert len(mapped._locks) == 1
  assert not mapped._depths
  assert not mapped._locks
