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


def test_one_process_raises_as_usual():
  with pytest.raises(ValueError, match="bad"), ending.together():
    raise ValueError("bad")
