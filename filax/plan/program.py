# SPDX-License-Identifier: Apache-2.0
"""Compiles the train step of a config ahead of time, without devices."""

from collections.abc import Mapping
import dataclasses
import pathlib
import re
import tempfile
import time
from typing import Any

import jax

from data_pipelines.packing import planner
from data_pipelines.packing.demand import Demand
from filax.checkpoint.tree import flatten_tree
from filax.models.lora import is_adapter
from filax.parallel import rules
from filax.spec import RowShape
from filax.train.batches import batch_sharding
from filax.train.setup import Setup, train_step

_OOM = re.compile(r"\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)")
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30}
_QUERIES = 4  # Turns of a sample, assumed for visual dropout before there is data.


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on each device."""

  parameters: float  # Without adapters.
  optimizer: float
  batch: float
  temporary: float  # Activations, gradients, results of collectives.
  program: float = 0.0
  adapters: float = 0.0

  @property
  def total(self) -> float:
    """All bytes of the step."""
    return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step, or the compiler's error about too little memory."""

  memory: Memory
  seconds: float  # Spent compiling.
  text: str = ""  # "" if it needs too much memory.
  error: str = ""


def compile_step(setup: Setup, config: Mapping[str, Any], row: RowShape) -> Program:
  """Compiles the step of `filax train` for rows of this shape.

  Raises ValueError for an invalid config, and for any compiler error except lack of memory.
  """
  batch = batch_like(setup, config["batch"], row)
  with jax.set_mesh(setup.mesh):
    lowered = train_step(config, setup).lower(setup.like, batch)
  compiled = compile_lowered(setup.mesh, lowered)
  leaves = flatten_tree(setup.like.params)
  adapters = {path: leaf for path, leaf in leaves.items() if is_adapter(path)}
  base = {path: leaf for path, leaf in leaves.items() if path not in adapters}
  memory = Memory(
    parameters=rules.device_bytes(base),
    optimizer=setup.optimizer_bytes,
    batch=rules.device_bytes(batch),
    temporary=compiled.temporary,
    program=compiled.program,
    adapters=rules.device_bytes(adapters),
  )
  return Program(memory, compiled.seconds, compiled.text, compiled.error)


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says about a program."""

  seconds: float  # Spent compiling.
  temporary: float  # Bytes on each device beside the arguments; all bytes if there is an error.
  program: float = 0.0  # Bytes of code.
  text: str = ""  # "" if it needs too much memory.
  error: str = ""
  executable: Any = None


def compile_lowered(mesh: jax.sharding.Mesh, lowered: jax.stages.Lowered) -> Compiled:
  """Compiles a program for the devices of a mesh.

  Raises ValueError for any compiler error except lack of memory.
  """
  began = time.perf_counter()
  with jax.set_mesh(mesh), tempfile.TemporaryDirectory() as folder:
    try:
      # The compiler dumps its text: as_text() fails for asynchronous operations of v5p and v6e.
      executable = lowered.compile(
        compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
      )
      text = next(pathlib.Path(folder).glob("*.after_codegen.txt")).read_text()
    except jax.errors.JaxRuntimeError as error:
      text = str(error)
      first_line = text.splitlines()[0][:400]
      too_large = _OOM.search(text)
      if too_large is None:
        raise ValueError(f"The compiler refuses this program: {first_line}") from error
      needed = float(too_large[1]) * _UNIT[too_large[2]]
      return Compiled(time.perf_counter() - began, needed, error=first_line)
  stats = executable.memory_analysis()
  if stats is None:
    raise ValueError("The compiler does not say how much memory this program needs.")
  new_outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
  return Compiled(
    seconds=time.perf_counter() - began,
    temporary=stats.temp_size_in_bytes + new_outputs,
    program=stats.generated_code_size_in_bytes,
    text=text,
    executable=executable,
  )


def config_rows(config: Mapping[str, Any], model: Any) -> tuple[RowShape, ...]:
  """The row shapes of a config.

  Visual dropout needs a number of turns; before there is data, a small number is assumed.
  """
  visual = model.layout()
  shapes = planner.row_shapes(config["data"]["rows"], visual.frames_per_unit)
  demand = Demand.zeros(1, len(visual.stages))
  demand.queries[0] = _QUERIES
  return planner.with_dropout(shapes, visual, demand)


def batch_like(setup: Setup, count: int, row: RowShape) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes and shardings of a batch of `count` rows."""
  shapes = row.shapes(count, setup.model.encoder.size)
  return {
    key: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(key, shape, setup.mesh))
    for key, (shape, dtype) in shapes.items()
  }
