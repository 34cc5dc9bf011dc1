# SPDX-License-Identifier: Apache-2.0
"""One of two processes: the one that argv[1] names refuses, the other waits in a collective."""

import sys

import jax
from jax.experimental import multihost_utils

from filax.parallel import distributed, ending

distributed.start()
with ending.together():
  if jax.process_index() == int(sys.argv[1]):
    raise ValueError("config.x=0 is bad. Set config.x to 1.")
  multihost_utils.sync_global_devices("for ever")
