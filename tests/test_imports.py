# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, read from the code."""

import ast
from collections.abc import Iterator
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ("absl", "av", "grain", "ml_collections", "orbax", "tensorflow", "tensorflow_datasets")
TORCH = ("torch", "transformers")
BASE = (
  "filax.spec",
  "filax.files",
  "filax.host_limits",
  "filax.memory_errors",
  "filax.disk_errors",
  "filax.processes",
  "filax.settings",
  "filax.setting_kinds",
  "filax.user_cache",
  "filax.temporary_folder",
  "filax.progress",
  "filax.chat_endpoint",
  "filax.concurrent_calls",
)
MODEL = (*BASE, "filax.parallel", "filax.ops", "filax.models")

JAX_CACHE = "filax.compilation_cache"
RUNS = (
  *MODEL,
  JAX_CACHE,
  "filax.costs",
  "filax.checkpoint",
  "filax.train",
  "filax.convert",
  "filax.infer",
)

# Folder or file -> what of ours it may import beside itself. The first match wins.
MAY = {
  "filax/spec": (),
  "filax/files.py": ("filax.disk_errors", "filax.processes"),
  "filax/host_limits.py": (),
  "filax/processes.py": (),
  "filax/memory_errors.py": (),
  "filax/disk_errors.py": (),
  "filax/user_cache.py": ("filax.files",),
  "filax/temporary_folder.py": (),
  "filax/compilation_cache.py": ("filax.files", "filax.host_limits", "filax.user_cache"),
  "filax/setting_kinds.py": (),
  "filax/progress.py": (),
  "filax/chat_endpoint.py": (),
  "filax/concurrent_calls.py": (),
  "filax/settings.py": ("filax.setting_kinds",),
  "filax/costs.py": (),
  "filax/shipped_configs.py": (),
  "filax/placeholders.py": (),
  "filax/parallel": BASE,
  "filax/ops": (*BASE, "filax.parallel"),
  "filax/models": (*MODEL, JAX_CACHE),
  "filax/checkpoint": MODEL,
  "filax/train/run.py": (*MODEL, JAX_CACHE, "filax.costs", "filax.checkpoint", "data_pipelines"),
  "filax/train": (*MODEL, JAX_CACHE, "filax.costs", "filax.checkpoint"),
  "filax/convert/export_kit": (),  # Copied into exported folders, where FiLax is not installed.
  # An export writes the chat template of its tokenizer.
  "filax/convert": (*MODEL, "filax.checkpoint", "data_pipelines.text.chat_template"),
  "filax/infer": (*MODEL, JAX_CACHE, "filax.checkpoint", "data_pipelines"),
  "filax/evals": (*RUNS, "data_pipelines"),
  "filax/plan": (*RUNS, "data_pipelines"),
  "filax/studies": (*RUNS, "filax.evals", "filax.released", "filax.training", "data_pipelines"),
  "filax/demo": (
    *RUNS,
    "filax.evals",
    "filax.configs",
    "filax.training",
    "data_pipelines",
  ),
  "filax/serve": (*RUNS, "filax.evals", "data_pipelines"),
  "filax/testing": (*RUNS, "filax.configs", "data_pipelines"),
  "filax/cli": ("filax", "data_pipelines"),
  "filax/__init__.py": ("filax",),  # For type checkers; tests/test_public_api.py looks.
  "filax/__main__.py": ("filax.cli",),
  "filax/hub": (*RUNS, "filax.evals", "filax.released", "data_pipelines"),
  "filax/starting_point.py": (*RUNS, "filax.released", "data_pipelines"),
  "filax/training.py": (
    *RUNS,
    "filax.evals",
    "filax.placeholders",
    "filax.shipped_configs",
    "filax.starting_point",
    "data_pipelines",
  ),
  "filax/released.py": (*RUNS, "filax.configs", "data_pipelines"),
  "filax": (),
  "data_pipelines": BASE,
  "configs": ("filax.configs",),
}
# Folder or file -> what of others' it may not import.
MAY_NOT = {
  "filax/spec": ("jax", "flax", *HEAVY, *TORCH),
  "filax/files.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/processes.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/user_cache.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/temporary_folder.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/progress.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/chat_endpoint.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/concurrent_calls.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/setting_kinds.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/settings.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/shipped_configs.py": ("jax", "flax", "numpy", *HEAVY, *TORCH),
  "filax/parallel": (*HEAVY, *TORCH),
  "filax/ops": ("flax.linen", *HEAVY, *TORCH),
  "filax/models": (*HEAVY, *TORCH),
  "filax/convert/export_kit": ("jax", "flax", "ml_collections", "orbax"),
  "filax/testing": ("pytest", "hypothesis", *TORCH),  # Others' tests may use another framework.
  "filax": TORCH,
  "data_pipelines": ("jax", "flax", "orbax", *TORCH),
  "configs": ("jax", "flax", *TORCH),
}
FILES = sorted(
  str(path.relative_to(ROOT))
  for folder in ("filax", "data_pipelines", "configs")
  for path in (ROOT / folder).rglob("*.py")
)


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
  """(dotted name, whether it is imported inside a function)."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.Import):
      yield from ((a.name, inside) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from ((f"{node.module}.{a.name}", inside) for a in node.names)
    function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    yield from imports(node, inside or function)


def row(table: dict, path: str):
  """The first row of a table that covers a file."""
  return next((v for k, v in table.items() if path == k or path.startswith(f"{k}/")), ())


def under(name: str, roots) -> bool:
  return any(f"{name}.".startswith(f"{root}.") for root in roots)


def faults(path: str, source: str) -> list[str]:
  """The imports of a file that break a rule."""
  parts = path.removesuffix(".py").split("/")
  own = ".".join(parts[:2]) if parts[0] == "filax" else parts[0]
  found = []
  for name, inside in imports(ast.parse(source)):
    ours = under(name, ("filax", "data_pipelines", "configs", "tests"))
    if ours and not under(name, (own, *row(MAY, path))):
      found.append(name)
    converting = inside and path.startswith("filax/convert/") and under(name, TORCH)
    if not ours and under(name, row(MAY_NOT, path)) and not converting:
      found.append(name)
  return found


@pytest.mark.parametrize("path", FILES)
def test_imports(path):
  assert not faults(path, (ROOT / path).read_text())


@pytest.mark.parametrize(
  ("path", "line"),
  [
    ("filax/ops/x.py", "from filax.models import layers"),
    ("filax/ops/x.py", "from flax import linen as nn"),
    ("filax/models/x.py", "import ml_collections"),
    ("filax/train/x.py", "import data_pipelines.loader"),
    ("filax/convert/x.py", "import torch"),
    ("filax/infer/x.py", "def f():\n  import torch"),
    ("filax/testing/x.py", "import pytest"),
    ("filax/testing/x.py", "from filax.cli import train"),
    ("filax/infer/x.py", "from filax.testing import clips"),
    ("data_pipelines/x.py", "from filax.ops import rope"),
    ("data_pipelines/x.py", "def f():\n  import jax"),
    ("configs/x.py", "from filax import spec"),
  ],
)
def test_a_broken_rule_is_found(path, line):
  assert faults(path, line)


def test_torch_may_be_imported_by_a_function_of_convert():
  assert not faults("filax/convert/x.py", "def f():\n  import torch")


def test_importing_filax_is_cheap():
  code = "import sys, filax, data_pipelines; print({'jax', 'flax'} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
  assert done.stdout.strip() == "set()", done.stderr
