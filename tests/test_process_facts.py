# SPDX-License-Identifier: Apache-2.0
"""Facts about processes."""

import subprocess
import sys

from filax import processes


def test_the_peak_is_not_that_of_the_process_that_started_this_one():
  """Linux adds it to ru_maxrss of a child."""
  before = bytes(bytearray(range(256))) * (200 << 12)  # 200 MiB.
  code = "from filax import processes; print(processes.peak_memory())"
  done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert 1 << 20 < int(done.stdout) < len(before)
  assert processes.peak_memory() > len(before)
