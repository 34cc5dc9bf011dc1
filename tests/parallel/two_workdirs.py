# SPDX-License-Identifier: Apache-2.0
"""One of two processes, which hold the workdirs argv[1] and argv[2] as one run."""

import sys

import jax

from filax.checkpoint import steps
from filax.parallel import distributed, ending, key_value
from filax.train import hold

distributed.start()
steps.SEEN_SECONDS = 1.0
with ending.together(), hold.hold_workdir(sys.argv[1 + jax.process_index()]):
  if jax.process_index() == 0:
    key_value.wait("the end of the other process")
  ending.end_all("They share it.", 0)
