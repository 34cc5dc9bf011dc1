# SPDX-License-Identifier: Apache-2.0
"""A refusal of one process ends all, each with the same sentence."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from filax.parallel import ending

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = pathlib.Path(__file__).parent / "two_endings.py"


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return str(listener.getsockname()[1])


@pytest.mark.parametrize("refuses", [0, 1])
def test_both_end_with_the_sentence_of_the_one_that_refused(refuses):
  shared = dict(
    JAX_PLATFORMS="cpu", FILAX_COORDINATOR=f"127.0.0.1:{free_port()}", FILAX_PROCESSES="2")
  processes = [
    subprocess.Popen(
      [sys.executable, SCRIPT, str(refuses)], cwd=ROOT, text=True, stderr=subprocess.PIPE,
      env=os.environ | shared | dict(PYTHONPATH=str(ROOT), FILAX_PROCESS_ID=str(index)))
    for index in (0, 1)]
  for process in processes:
    _, errors = process.communicate(timeout=60)  # The barrier at exit would take 300 s.
    assert process.returncode == ending.REFUSED
    assert f"process {refuses} (" in errors.splitlines()[-1]
    assert errors.splitlines()[-1].endswith("config.x=0 is bad. Set config.x to 1.")
    assert "Traceback" not in errors


def test_one_process_raises_as_usual():
  with pytest.raises(ValueError, match="bad"), ending.together():
    raise ValueError("bad")
