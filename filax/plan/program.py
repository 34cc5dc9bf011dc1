# SPDX-License-Identifier: Apache-2.0
"""The train step of a config, compiled ahead of time for devices that need not be there."""

from collections.abc import Mapping
import dataclasses
import math
import pathlib
import re
import tempfile
import time
from typing import Any

import jax

from data_pipelines.packing import planner
from data_pipelines.packing.demand import Demand
from filax.spec import RowShape
from filax.train import setup as start
from filax.train.batches import layout

_OOM = re.compile(r"\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)")
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30}
_QUERIES = 4  # A sample's turns, where visual dropout wants to know before there is data.


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on each device."""

  parameters: float
  optimizer: float
  batch: float
  temporary: float  # Activations, gradients, what collectives bring.
  program: float = 0.0

  @property
  def total(self) -> float:
    return self.parameters + self.optimizer + self.batch + self.temporary + self.program


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step, or what the compiler said of one that needs too much memory."""

  memory: Memory
  seconds: float  # Spent compiling.
  text: str = ""  # "" if it needs too much memory.
  error: str = ""


def compile_step(setup: start.Setup, config: Mapping[str, Any], row: RowShape) -> Program:
  """Compiles the step of `filax train` for batches of rows of this shape.

  Raises ValueError for a config that cannot be, and for what the compiler refuses but for memory.
  """
  batch = batch_like(setup, config["batch"], row)
  held = dict(
    parameters=_held(setup.like.params), optimizer=_held(setup.like.opt), batch=_held(batch)
  )
  began = time.perf_counter()
  with jax.set_mesh(setup.mesh), tempfile.TemporaryDirectory() as folder:
    lowered = start.train_step(config, setup).lower(setup.like, batch)
    try:
      # The compiler writes its text itself: as_text() fails for what v5p and v6e do asynchronously.
      compiled = lowered.compile(
        compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
      )
      text = next(pathlib.Path(folder).glob("*.after_codegen.txt")).read_text()
    except jax.errors.JaxRuntimeError as error:
      said = str(error).splitlines()[0][:400]
      if not (missing := _OOM.search(str(error))):
        raise ValueError(f"The compiler refuses this program: {said}") from error
      needed = float(missing[1]) * _UNIT[missing[2]]
      return Program(Memory(**held, temporary=needed), time.perf_counter() - began, error=said)
  stats = compiled.memory_analysis()
  beyond = stats.output_size_in_bytes - stats.alias_size_in_bytes
  memory = Memory(
    **held, temporary=stats.temp_size_in_bytes + beyond, program=stats.generated_code_size_in_bytes
  )
  return Program(memory, time.perf_counter() - began, text)


def rows(config: Mapping[str, Any], model: Any) -> tuple[RowShape, ...]:
  """The shapes of a config's rows; where visual dropout has no data yet, samples of few turns."""
  visual = model.layout()
  shapes = planner.row_shapes(config["data"]["rows"], visual.frames_per_group)
  demand = Demand.zeros(1, len(visual.stages))
  demand.queries[0] = _QUERIES
  return planner.with_dropout(shapes, visual, demand)


def batch_like(setup: start.Setup, count: int, row: RowShape) -> dict[str, jax.ShapeDtypeStruct]:
  """A batch of `count` rows as it lies on the mesh, shapes only."""
  shapes = row.shapes(count, setup.model.encoder.size)
  return {
    key: jax.ShapeDtypeStruct(shape, dtype, sharding=layout(key, shape, setup.mesh))
    for key, (shape, dtype) in shapes.items()
  }


def _held(tree) -> float:
  """Bytes of a tree on one device."""
  sizes = (
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
  return float(sum(sizes))
