# SPDX-License-Identifier: Apache-2.0
"""Compiles train steps for NVIDIA GPUs on a machine that has none.

  pip install 'filax[gpu]'                     # XLA's compiler for CUDA; Python 3.12 or newer.
  python -m benchmarks.gpu_compile             # Every entry, minutes each on two cores.
  python -m benchmarks.gpu_compile --only vcf  # Entries whose name has "vcf" in it.

XLA for GPUs has passes that CPUs and TPUs do not have, and a program that one of them cannot handle
ends the whole process, not only the compilation. So every entry is compiled in a process of its
own. Prints a line for each and ends with code 1 if one fails. Kernels are not tuned: that needs a
GPU. Entries are small configs: a larger one has the same operations.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
import time
from typing import Any

# An H100 as XLA describes it (stream_executor.GpuTargetConfigProto).
H100 = """
gpu_device_info {
  name: "NVIDIA H100"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 85899345920
  memory_bandwidth: 3350000000000
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  device_address_bits: 64
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100"
"""
NO_COMPILER = (
  "Compiling for GPUs needs JAX's plugin for CUDA. Install it with: pip install 'filax[gpu]'."
)
_STEPS = 100  # Of the schedule; no step runs.
_ERROR_LINES = 3


@dataclasses.dataclass(frozen=True)
class GpuEntry:
  """A config to compile, on `devices` GPUs of one host."""

  config: str  # Module of configs/, and the argument of its get_config.
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  devices: int = 1

  @property
  def name(self) -> str:
    """The config with its changes, for --only."""
    changes = "".join(f" {key}={value}" for key, value in self.changes.items())
    return f"{self.config}{changes}, {self.devices} GPU"


def _mesh(data: int, fsdp: int, seq: int, tensor: int) -> dict[str, int]:
  sizes = dict(data=data, fsdp=fsdp, seq=seq, tensor=tensor)
  return {f"mesh.{axis}": size for axis, size in sizes.items()} | {"batch": 8}


ENTRIES = (
  *(GpuEntry(f"fila_toy:stage={stage}") for stage in (1, 2)),
  *(GpuEntry(f"vcf_toy:stage={stage}") for stage in (1, 2)),
  GpuEntry("vcf_toy:stage=4,dropout=1:uniform:0.75+2:attention:0.25"),
  *(GpuEntry(f"vcf_needles:stage={stage}") for stage in (2, 5)),
  *(GpuEntry(f"fila_stage{stage}:debug") for stage in (1, 4)),
  *(GpuEntry(f"vcf_stage{stage}:debug") for stage in (1, 3, 4)),
  GpuEntry("vcf_stage4:debug", {"model.dtype": "bfloat16"}),
  GpuEntry("vcf_stage4:debug", _mesh(1, 2, 2, 2), 8),
  GpuEntry("fila_stage4:debug", _mesh(1, 4, 1, 2), 8),
  GpuEntry("vcf_stage3:debug", _mesh(2, 1, 4, 1) | {"model.llm.sequence": "ring"}, 8),
)


def entry_settings(entry: GpuEntry) -> dict[str, Any]:
  """The config of an entry as `filax train` would read it."""
  module, _, argument = entry.config.partition(":")
  config = importlib.import_module(f"filax.configs.{module}").get_config(argument)
  with config.unlocked():
    config.update_from_flattened_dict(dict(entry.changes))
  return json.loads(config.to_json())


def compile_entry(entry: GpuEntry) -> dict[str, float]:
  """Compiles all row shapes of an entry.

  Returns the seconds and the bytes of temporary memory on a device, each the most of all shapes.
  """
  import jax
  from jax.experimental import topologies

  from filax.plan import program
  from filax.train import setup as train_setup

  jax.devices("cpu")  # Registers the plugin.
  topology = topologies.get_topology_desc(
    platform="cuda", topology_name="h100", topology=f"1x1x{entry.devices}", target_config=H100
  )
  settings = entry_settings(entry)
  setup = train_setup.prepare(settings, _STEPS, topology.devices)
  step = train_setup.train_step(settings, setup)
  seconds = []
  temporary = []
  for row in program.config_rows(settings, setup.model):
    batch = program.batch_like(setup, settings["batch"], row)
    with jax.set_mesh(setup.mesh):
      lowered = step.lower(setup.like, batch)
      began = time.perf_counter()
      compiled = lowered.compile()
    seconds.append(time.perf_counter() - began)
    temporary.append(compiled.memory_analysis().temp_size_in_bytes)
  return dict(seconds=max(seconds), temporary=max(temporary))


def has_compiler() -> bool:
  """Whether JAX's plugin for CUDA is installed, of any version of CUDA."""
  if importlib.util.find_spec("jax_plugins") is None:
    return False
  plugins = importlib.import_module("jax_plugins")
  names = [module.name for module in pkgutil.iter_modules(plugins.__path__)]
  return any(name.startswith("xla_cuda") for name in names)


def compile_apart(number: int) -> str:
  """Compiles an entry in another process; "" or what went wrong."""
  command = [sys.executable, "-m", "benchmarks.gpu_compile", "--entry", str(number)]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  result = subprocess.run(command, env=environment, capture_output=True, text=True)
  if result.returncode == 0:
    print(result.stdout.splitlines()[-1], flush=True)
    return ""
  errors = [
    line for line in result.stderr.splitlines() if "Error" in line or "Check failed" in line
  ]
  message = " / ".join(errors[-_ERROR_LINES:]) or result.stderr[-300:]
  return f"{ENTRIES[number].name}: code {result.returncode}: {message}"


def main(argv: Sequence[str] | None = None) -> int:
  """Compiles from the command line; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.gpu_compile",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", default="", help="entries whose name has this in it")
  parser.add_argument("--entry", type=int, help=argparse.SUPPRESS)
  args = parser.parse_args(argv)
  if args.entry is not None:
    entry = ENTRIES[args.entry]
    figures = compile_entry(entry)
    mebibytes = figures["temporary"] / 2**20
    print(f"{entry.name}: {figures['seconds']:.0f} s, {mebibytes:.0f} MiB of temporary memory")
    return 0
  numbers = [number for number, entry in enumerate(ENTRIES) if args.only in entry.name]
  if not numbers:
    names = "\n".join(entry.name for entry in ENTRIES)
    print(f"No entry has --only={args.only!r} in its name. There are:\n{names}", file=sys.stderr)
    return 2
  if not has_compiler():
    print(NO_COMPILER, file=sys.stderr)
    return 2
  failures = list(filter(None, map(compile_apart, numbers)))
  for failure in failures:
    print(failure, file=sys.stderr)
  return 1 if failures else 0


if __name__ == "__main__":
  sys.exit(main())
