# SPDX-License-Identifier: Apache-2.0
"""Compiled programs in the user's cache, written and read by real processes."""

import os
from pathlib import Path
import subprocess
import sys
import tempfile

import pytest

from filax import compilation_cache, host_limits, user_cache
from filax.compilation_cache import ProgramFolder
from filax.testing import interrupted

ROOT = Path(__file__).parents[1]
PROGRAM = """\
import collections, jax, jax.numpy as jnp
from filax import compilation_cache
{before}
compilation_cache.enable()
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
print(jax.jit(lambda x: x * x * 3 + 1)(jnp.arange(4.0)).tolist(), events["cache_hits"])
print(jax.config.jax_compilation_cache_dir)
"""
RESULT = "[1.0, 4.0, 13.0, 28.0]"


def start(folder, before="", **variables):
  environment = dict(os.environ, PYTHONPATH=str(ROOT), FILAX_CACHE=str(folder), XLA_FLAGS="")
  for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
    environment.pop(name, None)
  return subprocess.Popen(
    [sys.executable, "-c", PROGRAM.format(before=before)],
    env=environment | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def result(process):
  """(programs that were found, jax's folder, stderr) of a process whose numbers are right."""
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  numbers, folder = out.splitlines()
  assert numbers.startswith(RESULT)
  return int(numbers.split()[-1]), folder, err


def entries(folder):
  return sorted(folder.glob("compiled/*/*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
  """A cache that two processes filled at the same time."""
  folder = tmp_path_factory.mktemp("cache")
  for process in [start(folder), start(folder)]:
    result(process)
  return folder


@pytest.mark.slow
def test_what_two_writers_left_is_found(filled):
  hits, folder, err = result(start(filled))
  assert hits == len(entries(filled)) > 0 and not err
  assert Path(folder).parent == filled / "compiled"
  assert (filled / "compiled").stat().st_mode & 0o777 == 0o700
  assert not list(filled.rglob("*.tmp"))


@pytest.mark.slow
def test_a_truncated_program_is_compiled_and_written_again(filled):
  for path in entries(filled):
    os.truncate(path, path.stat().st_size // 2)
  hits, _, err = result(start(filled))
  assert not hits and err.count("It is made anew.") == len(entries(filled))
  hits, _, err = result(start(filled))
  assert hits == len(entries(filled)) and not err


@pytest.mark.slow
@pytest.mark.parametrize(
  "variables, before, used",
  [
    (dict(FILAX_COMPILATION_CACHE="off"), "", "None"),
    (dict(JAX_ENABLE_COMPILATION_CACHE="false"), "", "None"),
    (dict(JAX_COMPILATION_CACHE_DIR="mine"), "", "mine"),
    ({}, "jax.config.update('jax_compilation_cache_dir', 'mine')", "mine"),
  ],
)
def test_settings_of_the_user_stay(variables, before, used, tmp_path):
  if "JAX_COMPILATION_CACHE_DIR" in variables:
    variables = dict(JAX_COMPILATION_CACHE_DIR=str(tmp_path / used))
  before = before.replace("mine", str(tmp_path / "mine"))
  _, folder, _ = result(start(tmp_path / "ours", before, **variables))
  assert Path(folder).name == used and not (tmp_path / "ours").exists()


@pytest.mark.slow
def test_a_folder_that_others_can_write_is_refused(tmp_path):
  (tmp_path / "compiled").mkdir()
  (tmp_path / "compiled").chmod(0o777)
  _, folder, err = result(start(tmp_path))
  assert folder == "None" and err.count("can be written by other users") == 1
  assert not list((tmp_path / "compiled").iterdir())


@pytest.mark.parametrize("value", ["of", "2"])
def test_an_unknown_switch_is_named(value, monkeypatch):
  monkeypatch.setenv(compilation_cache.SWITCH, value)
  with pytest.raises(ValueError, match=f"FILAX_COMPILATION_CACHE='{value}' cannot be used"):
    compilation_cache.enable()


def test_a_folder_of_another_user_is_refused(tmp_path):
  folder = tmp_path / "theirs"
  folder.mkdir()
  if os.geteuid():
    pytest.skip("Only root can give a folder away.")
  os.chown(folder, interrupted.NOBODY, -1)
  with pytest.raises(PermissionError, match=f"belongs to user {interrupted.NOBODY}"):
    user_cache.make_private(folder)


def test_users_of_one_cache_have_folders_of_their_own(tmp_path, monkeypatch):
  """A group may share FILAX_CACHE, so that a model is converted once."""
  monkeypatch.setenv(user_cache.KNOB, str(tmp_path))
  assert user_cache.own_folder("compiled") == tmp_path / "compiled"
  (tmp_path / "compiled").mkdir()
  assert user_cache.own_folder("compiled") == tmp_path / "compiled"
  monkeypatch.setattr(os, "geteuid", lambda: 2_000_123_456)
  assert user_cache.own_folder("compiled") == tmp_path / "compiled-2000123456"


def test_a_folder_below_one_that_all_can_write_is_refused(tmp_path):
  (tmp_path / "open").mkdir()
  (tmp_path / "open").chmod(0o777)
  with pytest.raises(PermissionError, match="can be replaced by other users"):
    user_cache.make_private(tmp_path / "open" / "mine")


def test_below_a_folder_of_another_user_in_a_shared_one_is_refused(tmp_path):
  """Such as /tmp/filax-UID that somebody else has made."""
  folder = tmp_path / "shared" / "theirs"
  folder.mkdir(parents=True)
  folder.parent.chmod(0o1777)
  if os.geteuid():
    pytest.skip("Only root can give a folder away.")
  os.chown(folder, interrupted.NOBODY, -1)
  with pytest.raises(PermissionError, match=f"replaced by user {interrupted.NOBODY}"):
    user_cache.make_private(folder / "mine")


def test_a_user_without_a_home_has_a_cache(monkeypatch):
  """As in a container with a number that /etc/passwd does not know."""
  for name in ("HOME", "XDG_CACHE_HOME", user_cache.KNOB):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os, "getuid", lambda: 2_000_123_456)
  folder = user_cache.cache_folder("compiled")
  assert folder == Path(tempfile.gettempdir(), f"filax-{os.geteuid()}", "compiled")


def test_without_a_home_a_folder_that_another_user_made_is_refused(tmp_path, monkeypatch, capsys):
  """The others may know the name, and make /tmp/filax-UID first."""
  for name in ("HOME", "XDG_CACHE_HOME", user_cache.KNOB):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os, "getuid", lambda: 2_000_123_456)
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  folder = user_cache.cache_folder("converted").parent
  assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
  folder.chmod(0o777)
  with pytest.raises(PermissionError, match=r"by other users .* Set FILAX_CACHE to a folder"):
    user_cache.cache_folder("converted")
  config = compilation_cache.jax.config
  settings = dict(jax_enable_compilation_cache=True, jax_compilation_cache_dir=None)
  monkeypatch.delenv(compilation_cache.SWITCH, raising=False)
  with monkeypatch.context() as patch:
    patch.setattr(type(config), "values", config.values | settings)
    compilation_cache.enable()
  assert "Compiled programs are not kept: " in capsys.readouterr().err


def test_the_name_holds_versions_and_cpus(monkeypatch):
  before = compilation_cache.programs_folder().name
  assert before.startswith(f"jax{compilation_cache.jax.__version__}-jaxlib")
  monkeypatch.setattr(host_limits, "affinity_cpus", lambda: 12345)
  assert compilation_cache.programs_folder().name != before


@pytest.mark.parametrize("content", [b"", b"x", b"half"])
def test_damage_is_no_program(content, tmp_path, capsys):
  programs = ProgramFolder(tmp_path, 1000)
  programs.put("key", b"program")
  assert programs.get("key") == b"program" and programs.get("other") is None
  (tmp_path / "key-cache").write_bytes(content)
  assert programs.get("key") is None
  programs.put("key", b"program")
  assert programs.get("key") == b"program" and "made anew" in capsys.readouterr().err


def test_a_program_under_another_name_is_none(tmp_path):
  programs = ProgramFolder(tmp_path, 1000)
  programs.put("a", b"program")
  os.rename(tmp_path / "a-cache", tmp_path / "b-cache")
  assert programs.get("b") is None


def test_the_oldest_programs_of_all_versions_go_first(tmp_path):
  old = ProgramFolder(tmp_path / "old", 10_000)
  new = ProgramFolder(tmp_path / "new", 10_000)
  for folder in ("old", "new"):
    (tmp_path / folder).mkdir()
  for number in range(8):
    old.put(f"{number}", bytes(1000))
    os.utime(tmp_path / "old" / f"{number}-cache", (number, number))
  assert old.get("1") is not None  # It is used now.
  for number in range(4):
    new.put(f"{number}", bytes(1000))
  left = {path.name for path in (tmp_path / "old").iterdir()}
  assert "1-cache" in left and not left & {"0-cache", "2-cache", "3-cache"}
  assert len(list((tmp_path / "new").iterdir())) == 4
  sizes = [path.stat().st_size for path in tmp_path.rglob("*-cache")]
  assert sum(sizes) <= 10_000


def test_a_program_above_the_bound_is_not_written(tmp_path):
  ProgramFolder(tmp_path, 10).put("key", bytes(11))
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_once(tmp_path, capsys):
  programs = ProgramFolder(tmp_path, 10_000)
  with interrupted.full_disk(100):
    programs.put("a", bytes(500))
    programs.put("b", bytes(500))
  assert capsys.readouterr().err.count("cannot be written") == 1
  assert not list(tmp_path.iterdir())
