# SPDX-License-Identifier: Apache-2.0
"""The CPUs and the memory that this process may use.

A container usually sees all CPUs and all memory of its host, but a control group limits what it
gets: a share of the CPU time (its quota), and a number of bytes. Both versions of Linux control
groups are read. The groups around a group limit it as well, so the lowest limit counts.

Standard library only.
"""

from collections.abc import Callable, Iterator
import math
import os
import pathlib
import sys

try:
  import resource
except ImportError:  # Not on Windows.
  resource = None  # type: ignore[assignment]  # A module that may be missing has no type.

_GROUPS = pathlib.Path("/sys/fs/cgroup")
_WINDOWS_FILES = 512  # What its C library allows.
_MEMBERSHIP = pathlib.Path("/proc/self/cgroup")


def affinity_cpus() -> int:
  """The CPUs on which this process may run."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def usable_cpus() -> int:
  """The number of processes that can compute at once, at least 1.

  That is the number of CPUs, or the quota of CPU time, rounded up, if it is lower.

    16 CPUs, quota of 2.5 seconds a second  ->  3
  """
  quotas = list(_limits("cpu", _quota_v2, _quota_v1))
  return max(1, min([affinity_cpus(), *quotas]))


def usable_memory() -> int:
  """Bytes of memory of this host, or of its container."""
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return min([total, *_limits("memory", _memory_v2, _memory_v1)])


def open_file_limit() -> int:
  """How many files this process may have open (ulimit -n)."""
  if resource is None:
    return _WINDOWS_FILES
  soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
  return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def allow_open_files(count: int) -> None:
  """Raises the limit of open files to `count`, if possible."""
  if resource is None or open_file_limit() >= count:
    return
  _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
  resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _limits(
  controller: str,
  read_v2: Callable[[pathlib.Path], int],
  read_v1: Callable[[pathlib.Path], int],
) -> Iterator[int]:
  """The limits of this process's control groups."""
  for folder in _group_folders(""):
    yield from _readable(read_v2, folder)
  for folder in _group_folders(controller):
    yield from _readable(read_v1, folder)


def _readable(read: Callable[[pathlib.Path], int], folder: pathlib.Path) -> Iterator[int]:
  try:
    limit = read(folder)
  except (OSError, ValueError, IndexError):  # No such file, or the word "max".
    return
  if limit > 0:
    yield limit


def _quota_v2(folder: pathlib.Path) -> int:
  """The quota in CPUs, rounded up.

  cpu.max: 250000 100000  ->  3
  """
  numbers = (folder / "cpu.max").read_text().split()
  return math.ceil(int(numbers[0]) / max(1, int(numbers[1])))


def _quota_v1(folder: pathlib.Path) -> int:
  """The quota in CPUs, rounded up; -1 is not a quota."""
  quota = int((folder / "cpu.cfs_quota_us").read_text())
  period = int((folder / "cpu.cfs_period_us").read_text())
  return math.ceil(quota / max(1, period))


def _memory_v2(folder: pathlib.Path) -> int:
  return int((folder / "memory.max").read_text())


def _memory_v1(folder: pathlib.Path) -> int:
  return int((folder / "memory.limit_in_bytes").read_text())


def _group_folders(controller: str) -> Iterator[pathlib.Path]:
  """The folders of this process's group, and of the groups around it.

  controller: "" for version 2. A container may see its own group as the topmost one, under a path
  that exists outside only; then just the topmost folder exists.
  """
  top = _GROUPS / controller
  path = pathlib.PurePosixPath(_membership(controller)).relative_to("/")
  yield top / path
  for parent in path.parents:
    if parent != path:
      yield top / parent


def _membership(controller: str) -> str:
  """The path of this process's group, such as "/user.slice"; "/" if unknown."""
  try:
    lines = _MEMBERSHIP.read_text().splitlines()
  except OSError:
    return "/"
  for line in lines:
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controller in controllers.split(",") and path.startswith("/"):
      return path
  return "/"
