# SPDX-License-Identifier: Apache-2.0
"""Commands whose inputs lie in a bucket, against an emulator of the store."""

import json
import pathlib

import fsspec
import pytest
import storage_emulators

from data_pipelines.manifest.reader import manifest_records
from data_pipelines.media import array_record, remote
from data_pipelines.tools import build_array_record
from filax.cli.main import main
from filax.testing import clips, manifests, tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
  """A bucket with a manifest of two clips."""
  folder = tmp_path_factory.mktemp("media")
  rows = []
  for name in ("a.mp4", "b.mp4"):
    clips.write_video(folder / name, 20, first=100 * (name == "b.mp4"))
    rows.append(manifests.question_record("What is it?", "A circle.", video=name, id=name))
  manifests.write_manifest(folder / "train.json", rows)
  with storage_emulators.google_bucket("inputs") as url:
    store = fsspec.filesystem("gs")
    for path in folder.iterdir():
      store.pipe_file(f"{url}/set/{path.name}", path.read_bytes())
    yield f"{url}/set", folder


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  remote.forget_versions()


def test_a_data_set_is_built_from_a_bucket(bucket, tmp_path):
  url, folder = bucket
  assert main(["data", "build", f"{url}/train.json", "--out", str(tmp_path / "out")]) == 0
  media = str(tmp_path / "out" / build_array_record.MEDIA)
  for name in ("a.mp4", "b.mp4"):
    assert array_record.read_record(media, name) == (folder / name).read_bytes()
  records = manifest_records(tmp_path / "out" / build_array_record.MANIFEST)
  assert len(list(records)) == 2


def test_a_data_set_is_not_built_in_a_bucket(bucket, tmp_path, monkeypatch):
  url, folder = bucket
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match="Build in a folder here"):
    build_array_record.build_data_set(folder / "train.json", f"{url}/out")
  assert not list(tmp_path.glob("gs*"))


def test_questions_of_a_bucket_are_asked(bucket, tmp_path):
  url, _ = bucket
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  out = tmp_path / "result"
  command = ["evals", "--checkpoint", str(run), "--manifest", f"{url}/train.json"]
  assert main([*command, "--max-new-tokens", "2", "--out", str(out)]) == 0
  result = json.loads((out / "result.json").read_text())
  assert result["questions"] == 2 and not result["bad_media"]
  assert result["hashes"]["annotations"][f"{url}/train.json"]


def test_missing_questions_of_a_bucket_are_named(bucket, tmp_path, capsys):
  url, _ = bucket
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  code = main(["evals", "--checkpoint", str(run), "--manifest", f"{url}/absent.json"])
  assert code == 2
  assert f"There is no manifest {url}/absent.json" in capsys.readouterr().err
  assert not pathlib.Path("gs:").exists()
