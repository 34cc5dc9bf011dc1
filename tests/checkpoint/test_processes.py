# SPDX-License-Identifier: Apache-2.0
"""Two real processes and one write the same record; both pass over what one of them reads wrong."""

import os
import pathlib
import subprocess
import sys

from compile_flags import QUICK
from free_ports import free_port
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = pathlib.Path(__file__).with_name("saved_by_processes.py")


def start(folder, devices, **more):
  env = (
    os.environ
    | dict(
      JAX_PLATFORMS="cpu",
      XLA_FLAGS=f"{QUICK} --xla_force_host_platform_device_count={devices}",
      PYTHONPATH=str(ROOT),
    )
    | more
  )
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), str(folder)],
    env=env,
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """(folder written by one process of four devices, by two of two each, what the two printed)."""
  folder = tmp_path_factory.mktemp("processes")
  address = f"127.0.0.1:{free_port()}"
  running = [start(folder / "one", 4)] + [
    start(
      folder / "two", 2, FILAX_COORDINATOR=address, FILAX_PROCESSES="2", FILAX_PROCESS_ID=str(n)
    )
    for n in range(2)
  ]
  printed = []
  for process in running:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    printed.append((out, err))
  assert printed[0][0].endswith("restored 3\n")
  return folder / "one", folder / "two", printed[1:]


def test_the_record_is_the_same(folders):
  one, two, _ = folders
  records = [
    (folder / "checkpoints" / "1" / "data" / "metadata").read_bytes() for folder in (one, two)
  ]
  assert records[0] == records[1]
  assert [path.name for path in (two / "checkpoints" / "1" / "data").glob("sums*")] == []


def test_both_pass_over_what_one_reads_wrong(folders):
  _, two, printed = folders
  assert all(out.endswith("restored 1\n") for out, _ in printed), printed
  assert "Skipping" in printed[0][1] and "Skipping" not in printed[1][1]
  assert (two / "checkpoints" / "2.damaged").exists()


def test_both_take_the_step_that_process_0_sees(folders):
  _, two, printed = folders
  for out, _ in printed:
    newer, older, broken, _ = out.splitlines()[-4:]
    assert newer == "newer: restored 3, 3"
    assert "older: The checkpoint cannot be read: process 1 (" in older
    assert f"does not see {two}_older/checkpoints/3, from which process 0 starts" in older
    assert broken == "broken: restored 2, 2"
  assert "process 1 finds that its item 'data'" in printed[0][1]
  assert (two / "checkpoints" / "3.damaged").exists()
