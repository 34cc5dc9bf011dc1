# SPDX-License-Identifier: Apache-2.0
"""The inputs of a run's plan, compared between processes and starts.

The fingerprint of a plan only shows that something changed. The inputs in parts (see
filax.parallel.agreement) also show which file or setting changed.
"""

from collections.abc import Mapping
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import sys
from typing import Any
import zlib

from etils import epath
import jax

from filax import files, settings
from filax.parallel import agreement
from filax.train.workdir import fetch_file, local_folder, publish_file

NAME = "plan.checked"
# Settings that may differ between hosts: they change the speed of the data, not its content, or
# they are paths of files whose content is compared.
_PER_HOST = frozenset(
  {
    "data.cache",
    "data.decode_seconds",
    "data.exclude",
    "data.open_seconds",
    "data.prefetch",
    "data.root",
    "data.threads",
    "data.tokenizer",
    "data.train",
    "data.workers",
    "debug_corpus",
    "evals",  # Its paths; filax.evals.planned compares the rest.
    "peak_tflops",
  }
)
_DECIDING = ("config.batch", "config.data.", "config.model.", "config.seed")
_PACKAGES = (
  "jax",
  "jaxlib",
  "numpy",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "av",
  "tokenizers",
  "sentencepiece",
)
_CODE = ("filax", "data_pipelines", "configs")
_OF_JAX = (
  "jax_default_matmul_precision",
  "jax_default_prng_impl",
  "jax_disable_jit",
  "jax_enable_x64",
  "jax_numpy_dtype_promotion",
  "jax_threefry_partitionable",
)
_OF_XLA = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# Flags that change no program: where to write, and how many CPU devices a process has.
_NO_PROGRAM = re.compile("--xla_dump|--xla_force_host_platform_device_count")

Parts = Mapping[str, agreement.Part]


def plan_parts(
  config: Mapping[str, Any], steps: int, fingerprint: str, ingredients: Parts
) -> dict[str, agreement.Part]:
  """The parts that must be equal on every process.

  ingredients: those of the pipeline.
  """
  shared = {}
  for name, value in settings.leaves(config):
    if name not in _PER_HOST:
      shared[f"config.{name}"] = repr(value)
  plan = {"fingerprint": fingerprint, "steps": str(steps)}
  plan |= ingredients.get("plan", {})
  code = software() | compiler_settings() | user_components(config)
  return {"config": shared, "software": code, **ingredients, "plan": plan}


@functools.cache
def software() -> dict[str, str]:
  """The versions of packages, and a digest of every source file.

  They decide the train step and its rows.
  """
  root = pathlib.Path(__file__).parents[2]
  entries = {name: _version(name) for name in _PACKAGES}
  for name in _CODE:
    for path in sorted((root / name).rglob("*.py")):
      digest = hashlib.sha256(path.read_bytes()).hexdigest()
      entries[str(path.relative_to(root))] = digest[:12]
  return entries


def compiler_settings() -> dict[str, str]:
  """Settings of jax and XLA that decide the compiled step."""
  entries = {}
  for name in _OF_JAX:
    entries[name] = repr(jax.config.values.get(name))
  for name in _OF_XLA:
    flags = os.environ.get(name, "").split()
    entries[name] = " ".join(flag for flag in sorted(flags) if not _NO_PROGRAM.match(flag))
  return entries


def user_components(config: Mapping[str, Any]) -> dict[str, str]:
  """A digest of the source file of every user component.

  config.model names such a component as "package.module:Class".
  """
  entries = {}
  for name, value in settings.leaves(config):
    if not name.endswith(".name") or not isinstance(value, str) or ":" not in value:
      continue
    module, _, _ = value.partition(":")
    source = getattr(sys.modules.get(module), "__file__", None)  # The model was built before.
    if source is not None:
      content = pathlib.Path(source).read_bytes()
      entries[f"config.{name} ({module})"] = hashlib.sha256(content).hexdigest()[:12]
  return entries


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "not installed"


def write_plan(workdir: epath.PathLike, fingerprint: str, parts: Parts) -> None:
  """Writes the parts to the workdir, on process 0.

  The part `software` is left out: it may change between starts.
  """
  if jax.process_index():
    return
  lasting = {name: dict(part) for name, part in parts.items() if name != "software"}
  record = json.dumps(dict(fingerprint=fingerprint, parts=lasting))
  path = local_folder(workdir) / NAME
  files.write_checked(path, zlib.compress(record.encode()))
  publish_file(workdir, path)


def read_plan(workdir: epath.PathLike) -> dict[str, Any]:
  """The fingerprint, parts and media that `write_plan` wrote.

  Empty if the file is missing or damaged.
  """
  try:
    content = files.read_checked(fetch_file(workdir, NAME))
    record = json.loads(zlib.decompress(content))
  except (OSError, ValueError, zlib.error):
    record = dict(fingerprint="", parts={})
  return record | dict(media=record["parts"].get("media"))


def describe_changes(workdir: epath.PathLike, parts: Parts, fingerprint: str) -> str:
  """The differences between `parts` and the workdir's plan, in words.

  "" if the workdir's plan does not have this fingerprint.
  """
  record = read_plan(workdir)
  if record["fingerprint"] != fingerprint:
    return ""
  sentences = []
  for name, before in record["parts"].items():
    text = agreement.differences(_deciding(before), _deciding(parts.get(name, {})))
    if text and name != "plan":
      sentences.append(f"{name}: {text}")
  return "; ".join(sentences)


def _deciding(part: agreement.Part) -> dict[str, str]:
  """A part without settings that affect no row, such as config.steps."""
  deciding = {}
  for name, text in part.items():
    if not name.startswith("config.") or name.startswith(_DECIDING):
      deciding[name] = text
  return deciding
