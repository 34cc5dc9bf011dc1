# SPDX-License-Identifier: Apache-2.0
"""A workdir is tried before work starts; what is wrong comes in one sentence."""

import errno
import importlib.util
import os
import pathlib
import tempfile

from free_ports import free_port
import fsspec
import pytest

from filax import files, released
from filax.checkpoint import run_folder, storage, store, streamed
from filax.cli import train as train_command
from filax.testing import interrupted
from filax.train import run


def test_a_folder_is_made_and_left_empty(tmp_path, monkeypatch):
  storage.check_writable(tmp_path / "a" / "b")
  assert list((tmp_path / "a" / "b").iterdir()) == []
  monkeypatch.chdir(tmp_path)
  storage.check_writable("relative")
  assert (tmp_path / "relative").is_dir()


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("file", "it is a file"),
    ("file/below", "Not a directory"),
    ("link", "it is a link to /nowhere/run, which is not there"),
  ],
)
def test_something_in_the_way(tmp_path, name, reason):
  (tmp_path / "file").touch()
  (tmp_path / "link").symlink_to("/nowhere/run")
  with pytest.raises(storage.SaveFailed, match=f"--workdir .*{name} cannot be written: {reason}"):
    storage.check_writable(tmp_path / name)


@pytest.mark.parametrize("use", [storage.check_writable, store.exists])
def test_a_name_that_is_not_utf8(tmp_path, use):
  """TensorStore would refuse it at the first save."""
  with pytest.raises(ValueError, match=r"caf.udce9' cannot be used, because its name is not UTF-8"):
    use(f"{tmp_path}/caf\udce9")


def test_a_folder_that_cannot_be_written(tmp_path):
  """As root, only what the kernel makes cannot be written."""
  folder = pathlib.Path("/proc/filax") if os.geteuid() == 0 else tmp_path
  if os.geteuid():
    folder.chmod(0o500)
  with pytest.raises(storage.SaveFailed, match="cannot be written"):
    storage.check_writable(folder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, number):
  def full(descriptor):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(storage.SaveFailed, match=r"(space|quota).* Free space"):
    storage.check_writable(tmp_path)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "extra"), [("gs://bucket/run", "gcs"), ("s3://bucket/run", "s3")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, path, extra):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  for use in (
    storage.check_writable,
    store.Checkpoints,
    store.read_config,
    store.restore_params,
  ):
    with pytest.raises(ValueError, match=rf"{path} needs the package .* 'filax\[{extra}\]'"):
      use(path)


@pytest.mark.parametrize("path", ["az://x/run", "http://x/run"])
def test_an_unknown_kind_of_bucket(path):
  with pytest.raises(ValueError, match="gs://… and s3://"):
    storage.check_writable(path)


@pytest.mark.parametrize(
  "use", [store.exists, store.read_config, streamed.step_folder, released.find_checkpoint]
)
def test_a_bucket_that_does_not_answer(monkeypatch, use):
  """Its client alone would retry for a minute."""
  monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
  monkeypatch.setenv("FILAX_BUCKET_SECONDS", "0.2")
  fsspec.get_filesystem_class("gs").clear_instance_cache()
  with pytest.raises(OSError, match=r"gs://away/run cannot be read: no answer in 0\.2 s of tries"):
    use("gs://away/run")
  with pytest.raises(storage.SaveFailed, match=r"gs://away/run cannot be written: no answer in"):
    storage.check_writable("gs://away/run")
  monkeypatch.setenv("FILAX_BUCKET_SECONDS", "soon")
  with pytest.raises(ValueError, match="FILAX_BUCKET_SECONDS=soon cannot be used"):
    use("gs://away/run")
  fsspec.get_filesystem_class("gs").clear_instance_cache()


def test_reasons_are_short():
  text = "RESOURCE_EXHAUSTED: Error writing x: No space left on device [os_error_code='28']"
  assert storage.reason(ValueError(text)) == "No space left on device"
  assert storage.reason(OSError(13, "Permission denied")) == "Permission denied"
  assert storage.reason(ValueError("a\n  b.")) == "a b"


def test_only_a_disk_that_takes_no_more_is_explained(tmp_path):
  with pytest.raises(storage.SaveFailed, match=r"metrics\.jsonl cannot be written: No space"):
    with storage.full_disk_explained(tmp_path):
      raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")
  with pytest.raises(FileNotFoundError):
    with storage.full_disk_explained(tmp_path):
      open(tmp_path / "absent").close()


def test_a_full_disk_is_that_of_the_file(tmp_path):
  """A corpus, or a cache, on another disk than the workdir."""
  corpus = tmp_path / "corpus" / "manifest.json"
  with pytest.raises(storage.SaveFailed) as caught:
    with storage.full_disk_explained(tmp_path / "run"):
      with files.write_atomically(corpus):
        raise OSError(errno.ENOSPC, "No space left on device")
  assert str(caught.value) == (
    f"{corpus} cannot be written: No space left on device. Free space there; the same command goes "
    "on."
  )


def test_checkpoints_that_another_user_made_are_named():
  """The workdir is the group's, but its run had umask 022."""
  with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users.
    workdir = pathlib.Path(name)
    (workdir / "checkpoints").mkdir()
    workdir.chmod(0o777)
    with interrupted.read_only_folder(workdir / "checkpoints"):
      with pytest.raises(storage.SaveFailed, match="has checkpoints that this user may not change"):
        run_folder.check_may_save(workdir)
    run_folder.check_may_save(workdir)


def test_training_tries_the_workdir_first(tmp_path, monkeypatch):
  """Before data are read and anything compiles."""

  def never(*arguments):
    raise AssertionError("Data were opened.")

  monkeypatch.setattr(run, "open_data", never)
  (tmp_path / "file").touch()
  with pytest.raises(storage.SaveFailed, match="file"):
    train_command.main(
      ["--config", "configs/fila_stage4.py:debug", "--workdir", str(tmp_path / "file")]
    )
