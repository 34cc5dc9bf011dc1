# SPDX-License-Identifier: Apache-2.0
"""A refusal of one process ends all, each with the same sentence."""

import processes
import pytest

from filax.parallel import ending

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("refuses", [0, 1])
def test_both_end_with_the_sentence_of_the_one_that_refused(refuses):
  for code, _, errors in processes.run("two_endings.py", str(refuses)):
    assert code == ending.REFUSED
    assert f"process {refuses} (" in errors.splitlines()[-1]
    assert errors.splitlines()[-1].endswith("config.x=0 is bad. Set config.x to 1.")
    assert "Traceback" not in errors


def test_processes_share_one_workdir(tmp_path):
  """A folder of the same name on a disk of its own would lose the checkpoints' parts."""
  (tmp_path / "link").symlink_to(tmp_path / "a")
  for code, _, errors in processes.run("two_workdirs.py", f"{tmp_path}/a", f"{tmp_path}/link"):
    assert code == 0 and errors.splitlines()[-1].endswith("They share it.")
  for code, _, errors in processes.run("two_workdirs.py", f"{tmp_path}/b", f"{tmp_path}/c"):
    assert code == ending.REFUSED
    assert f"--workdir {tmp_path}/c of process 1 (" in errors.splitlines()[-1]
    assert "is not the folder of process 0" in errors.splitlines()[-1]


def test_one_process_raises_as_usual():
  with pytest.raises(ValueError, match="bad"), ending.together():
    raise ValueError("bad")
