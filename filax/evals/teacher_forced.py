# SPDX-License-Identifier: Apache-2.0
"""Teacher-forced loss of the right answers of a manifest, by kind.

Rows, templates, labels and the loss are those of training; nothing is generated.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import pathlib
from typing import Any

import jax
from jaxtyping import PyTree
import numpy as np

from data_pipelines.loader import Pipeline, make_plan
from data_pipelines.packing.plan import Plan
from filax.evals.planned import PlannedEvaluation
from filax.parallel import preemption
from filax.train import batches, step
from filax.train.setup import Setup

ALL = ""  # The kind that stands for all samples.


@dataclasses.dataclass
class LossSum:
  """Losses of samples, summed for a mean."""

  total: float = 0.0
  count: float = 0.0

  def add_loss(self, total: float, count: float) -> None:
    """Adds a loss and its weight."""
    self.total += total
    self.count += count

  @property
  def mean(self) -> float:
    """The mean loss."""
    return self.total / self.count


def jitted_losses(config: Mapping[str, Any], setup: Setup) -> Callable:
  """The losses of all samples of a batch, whole on every process."""
  losses = step.make_sample_losses(setup.model, config["optim"]["loss_chunk"])
  return jax.jit(losses, out_shardings=setup.replicated)


class HeldOutRows:
  """The packed rows of a manifest, on the mesh that trains."""

  def __init__(
    self,
    config: Mapping[str, Any],
    setup: Setup,
    evaluation: PlannedEvaluation,
    folder: pathlib.Path,
    losses: Callable,
  ):
    """Reads a manifest and plans its rows under config.data.

    The limit of the evaluation counts conversations here. folder: for facts of the media. losses:
    `jitted_losses` of the same config. Raises ValueError if no sample fits in config.data.rows.
    """
    strategy = f"first:{evaluation.limit}" if evaluation.limit else "all"
    data = dict(config["data"])
    data["train"] = ((evaluation.source, strategy),)
    data["root"] = evaluation.data
    data["too_long"] = "skip"
    data["workers"] = 0
    rows_at_once = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
    folder.mkdir(parents=True, exist_ok=True)
    self.plan: Plan = make_plan(
      data,
      setup.model.layout(),
      config["seed"],
      rows_at_once,
      quarantine=folder / "quarantine.jsonl",
    )
    self._mesh = setup.mesh
    self._reduction = config["optim"]["reduction"]
    self._losses = losses
    self._key = jax.device_put(jax.random.key(0), setup.replicated)  # For visual dropout.

  def mean_losses(self, params: PyTree) -> dict[str, float]:
    """Kind -> mean loss; ALL -> that of all samples.

    The mean is that of config.optim.reduction: over samples, or over supervised tokens. Samples
    whose media cannot be read do not count. {} if none counts. Raises Interrupted on all processes
    of the run if one of them was asked to stop.
    """
    sums: dict[str, LossSum] = {}
    counted: set[int] = set()
    batch_rows = self.plan.batch
    with batches.open_batches(Pipeline(self.plan), self._mesh, 0) as stream:
      for first in range(0, self.plan.row_count(0), batch_rows):
        preemption.share_texts_or_stop("")
        batch = batches.place_batch(next(stream), self._mesh)
        total, tokens = jax.device_get(self._losses(params, batch, self._key))
        for offset in range(batch_rows):
          samples = self.plan.row(first + offset).samples
          self._add_row(sums, counted, samples, total[offset], tokens[offset])
    return {kind: loss.mean for kind, loss in sorted(sums.items())}

  def _add_row(
    self,
    sums: dict[str, LossSum],
    counted: set[int],
    samples: tuple[int, ...],
    totals: np.ndarray,
    tokens: np.ndarray,
  ) -> None:
    """Adds the samples of a row that are not counted yet."""
    for segment, number in enumerate(samples):
      count = float(tokens[segment])
      if number in counted or not count:
        continue
      counted.add(number)
      total = float(totals[segment])
      if self._reduction == "sample_mean":
        total = total / count
        count = 1.0
      for kind in {ALL, self.plan.samples[number].kind}:
        sums.setdefault(kind, LossSum()).add_loss(total, count)

  @functools.cached_property
  def left_out(self) -> int:
    """Samples that fit in no row, or that no template can write."""
    return len(self.plan.report["too_long"]) + self.plan.report["unwritable"]
