# SPDX-License-Identifier: Apache-2.0
"""Traces a few steps with jax.profiler.

The trace can be read by TensorBoard, Perfetto and XProf.
"""

import jax

from filax.checkpoint.store import say
from filax.train.hooks import Hook, RunFacts
from filax.train.state import TrainState
from filax.train.workdir import local_folder

FOLDER = "profile"  # Below the workdir; of a bucket, below its folder on this machine.


def step_range(text: str) -> range:
  """ "10:15" -> steps 10 to 14; "" -> none."""
  if not text:
    return range(0)
  first, _, stop = text.partition(":")
  return range(int(first), int(stop))


class Profiler(Hook):
  """Traces the steps of a range on process 0.

  No other step runs on the devices during the trace: the loop waits for the step before the range
  and for the last one of it. A start in the middle of the range traces the rest.
  """

  def __init__(self, steps: range):
    self._steps = steps
    self._folder = ""
    self._is_tracing = False

  def begin(self, run: RunFacts) -> None:
    self._folder = str(local_folder(run.workdir) / FOLDER)
    if run.first + 1 in self._steps:
      self._start()

  def wants_state(self, number: int) -> bool:
    if not self._steps:
      return False
    return number in (self._steps[0] - 1, self._steps[-1])

  def evaluate(self, number: int, state: TrainState) -> None:
    jax.block_until_ready(state)
    if number == self._steps[-1]:
      self._stop()
    else:
      self._start()

  def end(self, error: BaseException | None) -> None:
    self._stop()  # In case the run ended within the range.

  def _start(self) -> None:
    if jax.process_index() == 0:
      jax.profiler.start_trace(self._folder)
      self._is_tracing = True

  def _stop(self) -> None:
    if self._is_tracing:
      self._is_tracing = False
      jax.profiler.stop_trace()
      say(f"A trace of steps {self._steps[0]} to {self._steps[-1]} is in {self._folder}.")
