# SPDX-License-Identifier: Apache-2.0
"""`filax train` on made rows, as a program of its own: made_run.py MODE [options of filax train].

MODE is `plain`, `slow:N` (after N batches each takes 0.5 s), `hang:N` (no batch comes after N) or
`hang:N:P` (on process P alone). Also a config file. Tests start it with tests/train in PYTHONPATH.
"""

import sys
import threading
import time

from filax.testing import row_source

SLOW_SECONDS = 0.5


def get_config(arg=None):
  del arg
  return row_source.tiny_train_config(batch=2, steps=100_000, log_every=1, checkpoint_every=100_000)


class Rows(row_source.RandomRows):
  """Two rows a batch, shared by the processes, that come late or never."""

  ingredients = None

  def __init__(self, mode: str):
    import jax

    name, *numbers = mode.split(":")
    super().__init__(2 // jax.process_count())
    numbers = [int(text) for text in numbers]
    if numbers[1:] and numbers[1] != jax.process_index():
      name = "plain"
    self._name, self._limit = name, numbers[0] if numbers else 0

  def _batches(self, start):
    for number, batch in enumerate(super()._batches(start)):
      if number >= self._limit:
        time.sleep(SLOW_SECONDS if self._name == "slow" else 0)
        if self._name == "hang":
          threading.Event().wait()
      yield batch


if __name__ == "__main__":
  from filax.cli import errors, train
  from filax.train import run

  run.open_data = lambda config, workdir, check_lease: Rows(sys.argv[1])
  sys.exit(errors.run_verb(train.main, sys.argv[2:], "train"))
