# SPDX-License-Identifier: Apache-2.0
"""Compiled programs, kept between processes in the user's cache.

  $FILAX_CACHE/compiled/<versions of jax and jaxlib>-<CPU>/<program>-<key>-cache

jax compiles a program once and finds it again by a key. The key is a digest of the program's text,
the devices and the compiler's options. jax can write such a folder itself
(JAX_COMPILATION_CACHE_DIR), but that has two faults, so it cannot be on for everybody:

- A writer that is killed leaves a damaged program, which is never written again.
- With a size bound, all processes wait for one lock.

This cache differs:

- A program appears complete or not at all. Many processes and hosts may write at once without a
  lock, also on NFS.
- A damaged program is compiled again and replaced.
- The folders of all versions and CPUs together stay below a bound
  (jax_compilation_cache_max_size bytes, default 2 GiB). The programs that were not used for the
  longest time are deleted first.
- Machine code for one CPU is not seen by another. The folder's name holds a digest of the CPU's
  model, its features and the number of CPUs, because XLA divides loops by that number.

If you set jax's own cache (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE=false, or the
same in jax.config), it stays as you set it. FILAX_COMPILATION_CACHE=off keeps no programs.

With several processes, jax lets only process 0 write; the others read if the folder is shared.
`filax plan` always compiles, because it reads what the compiler reports about a program.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import hashlib
import os
from pathlib import Path
import platform
import re
import sys
import time

import jax
from jax._src import compilation_cache as jax_cache  # The storage has no public name.
from jax._src.compilation_cache_interface import CacheInterface
import jaxlib

from filax import files, host_limits, user_cache

SWITCH = "FILAX_COMPILATION_CACHE"
BOUND = 2 << 30  # Bytes of all folders, unless jax_compilation_cache_max_size is set.

_JAX_MIN_SECONDS = 1.0  # jax's default for the shortest compilation that is kept.
_MIN_SECONDS_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_JAX_NO_BOUND = -1
_TOUCH_SECONDS = 3600.0  # A program's time of use is kept to the hour.
_CHOSEN: list["ProgramFolder"] = []  # By `enable`; at most one.
_CPU_FACTS = re.compile(
  r"^(?:vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+)\s*:.*$", re.M
)


def enable() -> None:
  """Keeps the programs that this process compiles, unless jax's cache is configured.

  Without a folder that only the user can write, one line on stderr says so and nothing is kept.
  Raises ValueError for an unknown value of FILAX_COMPILATION_CACHE.
  """
  settings = jax.config.values
  if not _is_switched_on() or not settings["jax_enable_compilation_cache"]:
    return
  if settings["jax_compilation_cache_dir"] is not None:
    return
  try:
    folder = programs_folder()
    user_cache.make_private(folder.parent)
    user_cache.make_private(folder)
  except OSError as error:
    _report_refusal(error)
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))
  is_default = settings["jax_persistent_cache_min_compile_time_secs"] == _JAX_MIN_SECONDS
  if is_default and _MIN_SECONDS_VARIABLE not in os.environ:
    # Programs of a few operations take 20 ms each to compile, 1 ms to read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax_cache.get_file_cache = _with_own_storage(jax_cache.get_file_cache, str(folder))
  _CHOSEN[:] = [_open(folder)]


def storage() -> "ProgramFolder | None":
  """The folder that `enable` chose, or None.

  For other things that take long to trace.
  """
  return _CHOSEN[0] if _CHOSEN else None


def programs_folder() -> Path:
  """The folder of this jax and this CPU; it need not exist."""
  name = f"jax{jax.__version__}-jaxlib{jaxlib.__version__}-{platform.machine()}-{cpu_digest()}"
  return user_cache.own_folder("compiled") / name


def cpu_digest() -> str:
  """16 hexadecimal digits that differ between CPUs that run different machine code."""
  try:
    text = Path("/proc/cpuinfo").read_text()
  except OSError:
    text = ""
  facts = sorted(set(_CPU_FACTS.findall(text)))
  if not facts:
    facts = [platform.node(), platform.processor()]  # The host stands for its CPU.
  facts.append(str(host_limits.affinity_cpus()))
  return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _is_switched_on() -> bool:
  """FILAX_COMPILATION_CACHE. Raises ValueError for an unknown value."""
  value = os.environ.get(SWITCH, "on").strip().lower()
  if value in ("off", "0", "false", "no"):
    return False
  if value in ("", "on", "1", "true", "yes"):
    return True
  raise ValueError(f"{SWITCH}={value!r} cannot be used. Set it to on or off.")


def _report_refusal(error: OSError) -> None:
  reason = str(error)
  if error.strerror:  # The system's, not a sentence of ours.
    reason = f"{error.filename}: {error.strerror}. Set {user_cache.KNOB} to another folder."
  print(
    f"Compiled programs are not kept: {reason} {SWITCH}=off keeps none without this message.",
    file=sys.stderr,
    flush=True,
  )


def _with_own_storage(open_storage: Callable, folder: str) -> Callable:
  """jax's function that opens a folder of programs, but ours for `folder`."""

  @functools.wraps(open_storage)
  def open_folder(path):
    if path != folder:
      return open_storage(path)
    return _open(Path(path)), path

  return open_folder


def _open(folder: Path) -> "ProgramFolder":
  """A folder of programs, with the bound that jax's setting gives."""
  bound = jax.config.values["jax_compilation_cache_max_size"]
  return ProgramFolder(folder, BOUND if bound == _JAX_NO_BOUND else bound)


class ProgramFolder(CacheInterface):
  """A folder of compiled programs.

  The bound is that of all folders beside it together.
  Neither method raises. If a program cannot be read, it is compiled; if one cannot be written, this
  is reported once.
  """

  def __init__(self, folder: Path, bound: int):
    self._path = folder
    self._bound = bound
    self._unchecked = bound  # Bytes written since the bound was checked; at first, unknown.

  def get(self, key: str) -> bytes | None:
    """The program of a key; None if it is missing or damaged."""
    path = self._entry(key)
    content = files.read_cache(path, bytes, key)
    if content is not None:
      _note_use(path)
    return content

  def put(self, key: str, value: bytes) -> None:
    """Writes a program; another one of the same key is replaced."""
    if len(value) > self._bound:
      return
    path = self._entry(key)
    temporary = files.temporary_name(path)
    try:
      # Not flushed to the disk: a program that a power failure damages is compiled again.
      temporary.write_bytes(files.digest_line(value, key) + value)
      os.replace(temporary, path)
    except OSError as error:
      files.report_unwritable(self._path, error)
      with contextlib.suppress(OSError):
        temporary.unlink()
      return
    self._unchecked += len(value)
    step = self._bound // 16
    if self._unchecked > step:
      self._unchecked = 0
      remove_oldest(self._path.parent, self._bound - step)

  def _entry(self, key: str) -> Path:
    return self._path / f"{key}-cache"


def _note_use(path: Path) -> None:
  """Sets the time of a file, by which the oldest are found."""
  with contextlib.suppress(OSError):
    now = time.time()
    if now - path.stat().st_mtime > _TOUCH_SECONDS:
      os.utime(path, (now, now))


def remove_oldest(folder: Path, bound: int) -> None:
  """Removes the oldest files until `bound` bytes are left.

  A file is as old as its last use. folder: that of all versions and CPUs. Several processes may do
  so at once. Never raises.
  """
  for version in _subfolders(folder):
    files.remove_leftovers(version)
  entries = sorted(_entries(folder))
  total = sum(size for _, _, size in entries)
  for _, path, size in entries:
    if total <= bound:
      return
    with contextlib.suppress(OSError):
      os.unlink(path)
      total -= size


def _subfolders(folder: Path) -> list[Path]:
  with contextlib.suppress(OSError):
    return [path for path in folder.iterdir() if path.is_dir()]
  return []


def _entries(folder: Path) -> Iterator[tuple[float, str, int]]:
  """(time of use, path, bytes) of all files below a folder.

  Files of XLA are included.
  """
  for parent, _, names in os.walk(folder):
    for name in names:
      path = os.path.join(parent, name)
      with contextlib.suppress(OSError):
        status = os.stat(path)
        yield status.st_mtime, path, status.st_size
