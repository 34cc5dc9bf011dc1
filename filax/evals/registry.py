# SPDX-License-Identifier: Apache-2.0
"""Benchmarks by name: the files of filax/evals/benchmarks."""

import importlib
import os
import pkgutil

from filax.evals import benchmarks
from filax.evals.kit import Benchmark


def find_benchmark(name: str | os.PathLike) -> tuple[Benchmark, str]:
  """The benchmark with this name, or of this manifest, and its manifest."""
  names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
  name = os.fspath(name)
  if name in names:
    benchmark = importlib.import_module(f"filax.evals.benchmarks.{name}").BENCHMARK
    if benchmark.manifest:
      return benchmark, benchmark.manifest
  if not os.path.exists(name) and ".array_record" not in name:
    raise ValueError(
      f"There is no manifest {name}. Give a manifest of questions (.json, .jsonl, .array_record) "
      f"or a benchmark of filax/evals/benchmarks ({', '.join(names)})."
    )
  return importlib.import_module("filax.evals.benchmarks.manifest").BENCHMARK, name
