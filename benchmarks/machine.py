# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on: hardware, versions, load."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

from filax import host_limits

PACKAGES = (
  "filax",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "av",
  "numpy",
  "torch",
  "transformers",
  "scikit-learn",
  "faiss-cpu",
  "decord",
  "opencv-python-headless",
  "torchcodec",
)


def describe_machine() -> dict[str, Any]:
  """Hardware, versions and the commit."""
  return dict(
    date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    commit=commit(),
    processor=processor_name(),
    cores=host_limits.usable_cpus(),
    memory_gib=round(host_limits.usable_memory() / 2**30, 1),
    system=f"{platform.system()} {platform.release()}",
    python=platform.python_version(),
    packages=package_versions(),
  )


def package_versions() -> dict[str, str]:
  """Name -> version of the packages that are installed."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions


def processor_name() -> str:
  """The processor as /proc/cpuinfo names it."""
  path = pathlib.Path("/proc/cpuinfo")
  if path.exists():
    for line in path.read_text().splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.processor() or "unknown"


def commit() -> str:
  """The commit of the code, with "+" for changes.

  "unknown" outside of a repository."""
  root = pathlib.Path(__file__).parents[1]
  try:
    head = _git(root, "rev-parse", "--short", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return f"{head}+" if changes else head


def _git(root: pathlib.Path, *words: str) -> str:
  command = ["git", "-C", str(root), *words]
  return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def busy_seconds() -> float:
  """CPU seconds of all processes on the usable cores."""
  path = pathlib.Path("/proc/stat")
  if not path.exists():
    return 0.0
  names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
  ticks = 0
  for line in path.read_text().splitlines():
    name, *words = line.split()
    if name in names:
      user, nice, system, _, _, interrupts, soft = map(int, words[:7])
      ticks += user + nice + system + interrupts + soft
  return ticks / os.sysconf("SC_CLK_TCK")
