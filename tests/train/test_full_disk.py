# SPDX-License-Identifier: Apache-2.0
"""A disk that takes no more: one sentence, exit code 2, and the checkpoint before is whole."""

import os
import pathlib
import resource
import subprocess
import sys

from etils import epath
import pytest

from filax.checkpoint import orbax_items, storage

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = pathlib.Path(__file__).with_name("save_until_full.py")
FREE = "Free space, or set --workdir to another disk; the same command goes on from there."


def save(folder, *arrays, limit=resource.RLIM_INFINITY):
  return subprocess.run(
    [sys.executable, str(SCRIPT), str(folder), *map(str, arrays)],
    cwd=ROOT,
    text=True,
    capture_output=True,
    timeout=120,
    check=False,
    env=os.environ | dict(JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT)),
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
  )


def mount(folder, *options):
  done = subprocess.run(
    ["mount", *options, str(folder)], capture_output=True, text=True, check=False
  )
  if done.returncode:
    pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
  """A folder on a disk of 1.6 MB."""
  mount(tmp_path, "-t", "tmpfs", "-o", "size=1600k", "tmpfs")
  yield tmp_path
  subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_the_checkpoint_before_is_whole_and_the_run_goes_on(disk):
  done = save(disk / "run", 12, 12)
  assert done.returncode == 2
  said = done.stderr.strip().splitlines()
  assert said == [
    f"filax train: A checkpoint in {disk}/run/checkpoints could not be written, that of step 1 is "
    f"whole: No space left on device. {FREE}"
  ]
  assert done.stdout == "1\n"
  mount(disk, "-o", "remount,size=9m")
  done = save(disk / "run", 12, 12)
  assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_the_first_checkpoint_does_not_fit(disk):
  done = save(disk / "run", 30)
  assert done.returncode == 2
  said = done.stderr.strip().splitlines()
  assert len(said) == 1 and "there is no whole one yet: No space left on device." in said[0]
  assert done.stdout == "None\n"
  assert list((disk / "run" / "checkpoints").iterdir()) == []  # Its room is given back.


def test_files_that_may_not_be_that_large(tmp_path):
  done = save(tmp_path / "run", 2, 12, limit=300_000)
  assert done.returncode == 2
  said = done.stderr.strip().splitlines()
  assert len(said) == 1 and "that of step 1 is whole: File too large." in said[0]
  assert done.stdout == "1\n"


def test_a_step_that_was_not_written_replaces_none(tmp_path):
  """Orbax's thread may not hear of the error; it must not remove the step before."""
  with orbax_items.checkpoint_manager(epath.Path(tmp_path), 1, lambda: None) as manager:
    with pytest.raises(storage.SaveFailed, match="2 was not written"):
      manager._finalize_checkpoint(2)
