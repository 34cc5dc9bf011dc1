# SPDX-License-Identifier: Apache-2.0
"""Benchmarks by name: the files of filax/evals/benchmarks, and private files by path."""

from collections.abc import Mapping
import importlib
import importlib.util
import os
import pkgutil
import sys
import types

from data_pipelines.media import remote
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
  """The benchmark with this name.

  "module:name" or "file.py:name" is a private one.

  Raises ValueError for an unknown name.
  """
  module, _, private_name = name.rpartition(":")
  known: Mapping[str, Benchmark]
  if module:
    known = _module_benchmarks(module)
    wanted = private_name
  else:
    known = all_benchmarks()
    wanted = name
  if wanted not in known:
    names = ", ".join(sorted(set(known) - {MANIFEST}))
    raise ValueError(
      f"There is no benchmark {name!r}. The benchmarks are: {names}. A file with questions of your "
      "own is given with --manifest."
    )
  return known[wanted]


def private_file(name: str) -> str:
  """The Python file of a private benchmark; "" for the others."""
  module, _, _ = name.rpartition(":")
  if not module or not is_benchmark(name):
    return ""
  if module.endswith(".py"):
    return module
  spec = importlib.util.find_spec(module)
  return "" if spec is None else spec.origin or ""


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
  if not remote.exists(path) and ".array_record" not in path:
    names = ", ".join(sorted(set(all_benchmarks()) - {MANIFEST}))
    raise ValueError(
      f"There is no manifest {path}. Give a file of questions in a format of the training data, or "
      f"--benchmark with one of: {names}."
    )
  return path


def is_benchmark(name: str) -> bool:
  """Whether a name is a benchmark's, not a manifest's path."""
  if remote.is_remote(name) or os.path.exists(name):
    return False
  module, _, private_name = name.rpartition(":")
  if private_name.isidentifier() and module:
    return module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
  return name in set(all_benchmarks()) - {MANIFEST}


def _module_benchmarks(module: str) -> Mapping[str, Benchmark]:
  """BENCHMARKS of a module, or of a file.

  Raises ValueError if it has none.
  """
  try:
    if module.endswith(".py"):
      return _file_module(module).BENCHMARKS
    return importlib.import_module(module).BENCHMARKS
  except (ImportError, AttributeError, OSError) as error:
    raise ValueError(f"{module} is not a module with BENCHMARKS: {error}") from None


def _file_module(path: str) -> types.ModuleType:
  """The module of a file outside the import path, loaded once."""
  name = f"private_benchmarks:{os.path.abspath(path)}"
  if name in sys.modules:
    return sys.modules[name]
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ImportError(f"{path} is not a Python file")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Where dataclasses look for the names of their module.
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module
