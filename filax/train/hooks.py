# SPDX-License-Identifier: Apache-2.0
"""Hooks of a run, such as logging, profiling and evaluating.

The loop (filax/train/loop.py) calls every hook in the order of the list: the watchdog, the check of
supervision, the tracker, the bar of the steps and the profiler, then the hooks that were passed to
`train`. A class derives from Hook and overrides what it needs:

  class HeldOutLoss(Hook):
    '''Prints the loss of held-out rows every 100 steps.'''

    def __init__(self, rows):
      self._rows = rows  # A batch of packed rows (filax/spec/batch.py).

    def begin(self, run):
      self._loss = jax.jit(make_loss(run.setup.model))

    def wants_state(self, number):
      return number % 100 == 0

    def evaluate(self, number, state):
      total, sums = self._loss(state.params, self._rows, jax.random.key(0))
      print(f"step {number}: held-out loss {total / sums['count']:.4f}")

  filax.run_training(config, workdir, hooks=[HeldOutLoss(rows)])

Processes: every method is called on every process of the run, in the same order and for the same
steps, so a hook may run programs over the whole mesh. Hooks that write files look at
jax.process_index.
Errors: an exception of a hook ends the run on all processes. Nothing more is saved, the newest
checkpoint stays, and `end` is still called on every hook that had begun.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
from typing import Any

from etils import epath
import jax

from filax.train import goodput
from filax.train.setup import Setup
from filax.train.state import TrainState

COMPILE = goodput.COMPILE  # Phases of `Hook.around`.
EVALUATE = goodput.EVALUATE
SAVE = goodput.SAVE


@dataclasses.dataclass(frozen=True)
class RunFacts:
  """The facts about a run that hooks get before its first step."""

  workdir: epath.PathLike
  config: Mapping[str, Any]
  setup: Setup  # Model, mesh, optimizer and shardings.
  first: int  # Steps done by earlier starts; the next one is first + 1.
  steps: int  # The number of the last step.


class Hook:
  """Base class of hooks. Every method does nothing unless it is overridden."""

  def begin(self, run: RunFacts) -> None:
    """Called once, before the first batch is fetched.

    The state is ready and the mesh is set.
    """

  def dispatch(self, number: int) -> None:
    """Called when step `number` was handed to the devices.

    The devices still work on it, so this must not block.
    """

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    """Called with the metrics of step `number`.

    Often the next step runs already. metrics: the sums and means of filax/train/step.py, which are
    finite. Must be quick: the loop waits for it.
    """

  def wants_state(self, number: int) -> bool:
    """Whether to call `evaluate` after step `number`.

    The answer must be the same on every process.
    """
    return False

  def evaluate(self, number: int, state: TrainState) -> Mapping[str, float] | None:
    """Called with the state after step `number`, before another step is dispatched.

    A checkpoint that is due after this step is taken first. May be slow: the time counts neither
    for the watchdog nor for the rates. The next step reuses the memory of `state`: copy what you
    want to keep. A signal ends the method by signals.Interrupted, and the run then saves and stops;
    with several processes, preemption.share_texts_or_stop raises it. May return scores, the same on
    every process: they are logged, and the step whose config.best is the best so far is saved and
    stays.
    """
    return None

  def lacks_scores(self, number: int) -> bool:
    """Whether step `number`, from which the run resumes, was not evaluated yet.

    `evaluate` is then called before the first step. The answer must be the same on every process.
    """
    return False

  def record_scores(self, number: int, scores: Mapping[str, float]) -> None:
    """Called with the scores that all `evaluate` of step `number` returned."""

  def save(self, number: int) -> None:
    """Called when the checkpoint of step `number` was copied.

    It is still being written in the background.
    """

  def end(self, error: BaseException | None) -> None:
    """Called once, at the end of the run.

    error: None after the last checkpoint is on disk, else the error that ended the run.
    """

  def around(self, phase: str) -> contextlib.AbstractContextManager:
    """A context around a phase that takes longer than a step.

    phase: COMPILE, EVALUATE or SAVE.
    """
    return contextlib.nullcontext()


class HookList(Hook):
  """Several hooks as one, called in order.

  Their transfers between host and devices are allowed.
  """

  def __init__(self, hooks: Sequence[Hook]):
    self._hooks = tuple(hooks)
    self._begun: list[Hook] = []

  @contextlib.contextmanager
  def running(self, run: RunFacts) -> Iterator[None]:
    """Calls `begin` before the block and `end` after it.

    Also if one of them, or the block, fails.
    """
    try:
      self.begin(run)
      yield
    except BaseException as error:
      with contextlib.suppress(Exception):  # The first error ends the run and is reported.
        self.end(error)
      raise
    self.end(None)

  def begin(self, run: RunFacts) -> None:
    with jax.transfer_guard("allow"):
      for hook in self._hooks:
        hook.begin(run)
        self._begun.append(hook)

  def dispatch(self, number: int) -> None:
    for hook in self._hooks:
      hook.dispatch(number)

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    with jax.transfer_guard("allow"):
      for hook in self._hooks:
        hook.step(number, metrics)

  def wants_state(self, number: int) -> bool:
    return any(hook.wants_state(number) for hook in self._hooks)

  def evaluate(self, number: int, state: TrainState) -> dict[str, float]:
    wanting = [hook for hook in self._hooks if hook.wants_state(number)]
    return self._evaluate(wanting, number, state)

  def lacks_scores(self, number: int) -> bool:
    return any(hook.lacks_scores(number) for hook in self._hooks)

  def evaluate_again(self, number: int, state: TrainState) -> dict[str, float]:
    """The scores of the hooks that lack those of `number`."""
    lacking = [hook for hook in self._hooks if hook.lacks_scores(number)]
    return self._evaluate(lacking, number, state)

  def record_scores(self, number: int, scores: Mapping[str, float]) -> None:
    with jax.transfer_guard("allow"):
      for hook in self._hooks:
        hook.record_scores(number, scores)

  def _evaluate(self, hooks: Sequence[Hook], number: int, state: TrainState) -> dict[str, float]:
    """The scores of some hooks together."""
    scores: dict[str, float] = {}
    with self.around(EVALUATE), jax.transfer_guard("allow"):
      for hook in hooks:
        scores.update(hook.evaluate(number, state) or {})
    return scores

  def save(self, number: int) -> None:
    with jax.transfer_guard("allow"):
      for hook in self._hooks:
        hook.save(number)

  def end(self, error: BaseException | None) -> None:
    with jax.transfer_guard("allow"), contextlib.ExitStack() as calls:
      for hook in reversed(self._begun):
        calls.callback(hook.end, error)

  @contextlib.contextmanager
  def around(self, phase: str) -> Iterator[None]:
    with contextlib.ExitStack() as contexts:
      for hook in self._hooks:
        contexts.enter_context(hook.around(phase))
      yield
