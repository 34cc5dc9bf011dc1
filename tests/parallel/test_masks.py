# SPDX-License-Identifier: Apache-2.0
"""What one process of a row could not decode is masked on all."""

import processes
import pytest


@pytest.mark.slow
def test_processes_along_tensor_supervise_the_same_places():
  """They load the same rows; else their copies of the parameters would drift apart."""
  for code, out, errors in processes.run("two_masks.py"):
    assert code == 0, errors
    assert out.endswith("loss_mask 0.0\nnum_bad 1\n")  # Gloo prints lines before.
