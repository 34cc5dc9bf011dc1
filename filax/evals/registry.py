# SPDX-License-Identifier: Apache-2.0
"""Benchmarks by name: the files of filax/evals/benchmarks, and private files by path."""

from collections.abc import Mapping
import importlib
import os
import pkgutil

from filax.evals import benchmarks
from filax.evals.kit import Benchmark, NamedProtocol

MANIFEST = "manifest"  # The benchmark of custom questions, whose data is a manifest.


def all_benchmarks() -> dict[str, Benchmark]:
  """Name -> benchmark, of every file of filax/evals/benchmarks."""
  found: dict[str, Benchmark] = {}
  for module in pkgutil.iter_modules(benchmarks.__path__):
    found.update(_module_benchmarks(f"filax.evals.benchmarks.{module.name}"))
  return found


def find_benchmark(name: str) -> Benchmark:
  """The benchmark with this name, or "module:name" of a private module.

  Raises ValueError for an unknown name.
  """
  module, _, private_name = name.partition(":")
  known: Mapping[str, Benchmark]
  if private_name:
    known = _module_benchmarks(module)
    wanted = private_name
  else:
    known = all_benchmarks()
    wanted = name
  if wanted not in known:
    names = ", ".join(sorted(set(known) - {MANIFEST}))
    raise ValueError(f"There is no benchmark {name!r}. The benchmarks are: {names}.")
  return known[wanted]


def find_protocol(benchmark: Benchmark, name: str, family: str) -> tuple[str, NamedProtocol]:
  """(name, protocol) of a name; "" is the family's default.

  Raises ValueError for an unknown name.
  """
  protocols = benchmark.protocols
  if not name:
    name = family if family in protocols else next(iter(protocols))
  if name not in protocols:
    raise ValueError(
      f"--protocol={name!r} is none of this benchmark's. Set it to {', '.join(protocols)}."
    )
  return name, protocols[name]


def check_manifest(path: str | os.PathLike) -> str:
  """The path of an existing manifest. Raises ValueError for another."""
  path = os.fspath(path)
  if not os.path.exists(path) and ".array_record" not in path:
    names = ", ".join(sorted(set(all_benchmarks()) - {MANIFEST}))
    raise ValueError(
      f"There is no manifest {path}. Give a manifest of questions (.json, .jsonl, .array_record), "
      f"or --benchmark with one of: {names}."
    )
  return path


def _module_benchmarks(module: str) -> Mapping[str, Benchmark]:
  """BENCHMARKS of a module. Raises ValueError if it has none."""
  try:
    return importlib.import_module(module).BENCHMARKS
  except (ImportError, AttributeError) as error:
    raise ValueError(f"{module} is no module with BENCHMARKS: {error}") from None
