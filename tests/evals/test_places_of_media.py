# SPDX-License-Identifier: Apache-2.0
"""Benchmarks in a cache of Hugging Face, and media in archives."""

import os
import pathlib
import subprocess
import tarfile
import zipfile

import pytest

from filax.evals.archives import unpacking_hint
from filax.evals.kit import Benchmark
from filax.evals.questions import benchmark_source

PUBLISHER = "Its authors have it at https://huggingface.co/datasets/my-lab/My.Set: a file."
BENCHMARK = Benchmark(read_examples=iter, protocols={}, publisher=PUBLISHER)


@pytest.fixture
def cache(tmp_path):
  """HF_HOME with two snapshots, of which refs/main names the first."""
  repository = tmp_path / "hub" / "datasets--my-lab--My.Set"
  for revision in ("aaa", "bbb"):
    (repository / "snapshots" / revision).mkdir(parents=True)
  (repository / "refs").mkdir()
  (repository / "refs" / "main").write_text("aaa")
  return tmp_path


@pytest.mark.parametrize("place", ["", "hub", "hub/datasets--my-lab--My.Set"])
def test_the_snapshot_of_a_cache_is_read(cache, place):
  source = benchmark_source(cache / place, "mine", BENCHMARK)
  assert pathlib.Path(source.data) == cache / "hub/datasets--my-lab--My.Set/snapshots/aaa"
  assert source.root == ""


def test_without_a_main_branch_the_newest_snapshot_is_read(cache):
  repository = cache / "hub" / "datasets--my-lab--My.Set"
  (repository / "refs" / "main").unlink()
  os.utime(repository / "snapshots" / "aaa", (0, 0))
  assert benchmark_source(cache, "mine", BENCHMARK).data.endswith("bbb")


def test_the_videos_that_lmms_eval_unpacked_are_found(cache):
  (cache / "mine").mkdir()
  assert benchmark_source(cache, "mine", BENCHMARK).root == str(cache / "mine")
  assert benchmark_source(cache, "mine", BENCHMARK, str(cache)).root == str(cache)


def test_a_root_that_does_not_exist_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"no folder .*other\. Set --root"):
    benchmark_source(tmp_path, "mine", BENCHMARK, str(tmp_path / "other"))


def test_a_folder_without_archives_has_no_hint(tmp_path):
  for name in ("notes.txt", "videos.tar.md5", "zip"):
    (tmp_path / name).touch()
  assert unpacking_hint(str(tmp_path / "videos" / "a.mp4")) == ""


def tar(path, folder, mode):
  with tarfile.open(path, mode) as archive:
    archive.add(folder / "a.mp4", "videos/a.mp4")


def split(path, names):
  content = path.read_bytes()
  path.unlink()
  half = len(content) // 2
  (path.parent / names[0]).write_bytes(content[:half])
  (path.parent / names[1]).write_bytes(content[half:])


@pytest.mark.parametrize(
  ("name", "parts"),
  [
    ("videos.tar", ()),
    ("videos.tar.gz", ()),
    ("my videos.tar", ("my videos.tar.part.aa", "my videos.tar.part.ab")),
    ("videos.tar", ("videos.tar.part-aa", "videos.tar.part-ab")),
    ("videos.tar.gz", ("videos.tar.gz.00", "videos.tar.gz.01")),
    ("videos_chunked_01.zip", ()),
  ],
)
def test_the_commands_of_a_hint_unpack(tmp_path, name, parts):
  packed = tmp_path / "packed"
  packed.mkdir()
  (tmp_path / "a.mp4").write_bytes(os.urandom(3000))
  if name.endswith(".zip"):
    with zipfile.ZipFile(packed / name, "w") as archive:
      archive.write(tmp_path / "a.mp4", "videos/a.mp4")
  else:
    tar(packed / name, tmp_path, "w:gz" if name.endswith("gz") else "w")
  if parts:
    split(packed / name, parts)
  hint = unpacking_hint(str(packed / "videos" / "a.mp4"))
  command = hint.removeprefix("They may be in archives: ").removesuffix(". ")
  if name.endswith(".zip"):
    assert command.endswith('for f in *.zip; do unzip -n "$f"; done')
    return  # This machine may lack unzip.
  subprocess.run(command, shell=True, check=True)
  assert (packed / "videos" / "a.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


def test_many_archives_have_one_command(tmp_path):
  for number in range(3):
    (tmp_path / f"videos_{number}.tar").touch()
    (tmp_path / f"videos_{number}.zip").touch()
  hint = unpacking_hint(str(tmp_path / "a.mp4"))
  assert hint.count("; done") == 2 and 'for f in *.tar; do tar -xf "$f"; done' in hint
