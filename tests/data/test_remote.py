# SPDX-License-Identifier: Apache-2.0
"""Manifests and media in buckets, against emulators of the stores."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading

from array_record.python import array_record_module
import fsspec
import numpy as np
import pytest
import storage_emulators

from data_pipelines.media import array_record, remote
from data_pipelines.media.copies import downloads_folder
from data_pipelines.media.frames import read_frames
from data_pipelines.media.open import MediaError, identity
from data_pipelines.text import tokenizers
import filax
from filax import starting_point
from filax.cli import config_flags
from filax.testing import corpora, tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def google():
  with storage_emulators.google_bucket("data") as url:
    yield url


@pytest.fixture(scope="module")
def amazon():
  with storage_emulators.amazon_bucket("data") as url:
    yield url


@pytest.fixture(params=["google", "amazon"])
def bucket(request):
  return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
  """A cache of its own for each test."""
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  remote.forget_versions()
  return tmp_path / "cache" / "downloads"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def upload(folder, url):
  """Copies every file of a folder to a bucket."""
  store = fsspec.filesystem(url.partition("://")[0])
  for path in sorted(pathlib.Path(folder).rglob("*")):
    if path.is_file():
      store.pipe_file(f"{url}/{path.relative_to(folder)}", path.read_bytes())
  return url


def copies(downloads):
  return sorted(path.name for path in downloads.rglob("*") if path.is_file())


def test_rows_of_a_bucket_are_those_of_local_files(bucket, corpus):
  url = upload(corpus, f"{bucket}/corpus")
  here = corpora.open_pipeline(corpus)
  there = corpora.open_pipeline(
    corpus, train=((f"{url}/manifest.json", "all"),), tokenizer=f"{url}/tokenizer.json"
  )
  assert there.fingerprint == here.fingerprint
  assert there.ingredients == here.ingredients
  with here.batches() as expected, there.batches() as batches:
    for _ in range(3):
      batch = next(batches)
      for name, array in next(expected).items():
        assert np.array_equal(batch[name], array), name


def test_the_tokenizer_of_a_model_in_a_bucket(bucket, corpus, tmp_path):
  """Of a folder; a configured tokenizer that is there comes first."""
  url = upload(corpus, f"{bucket}/model")
  words = ["--config=fila_toy:debug", f"--config.init_from={url}"]
  for name, expected in ((tmp_path / "none.json", url), (f"{url}/tokenizer.json",) * 2):
    config, _ = config_flags.read_config([*words, f"--config.data.tokenizer={name}"])
    assert starting_point.first_tokenizer(config) == expected
    assert tokenizers.load_tokenizer(expected).encode("red")


def test_copies_are_kept_in_the_users_cache(tmp_path, monkeypatch):
  monkeypatch.delenv("FILAX_CACHE", raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert downloads_folder() == tmp_path / "filax/downloads"


def test_a_second_start_fetches_nothing(bucket, corpus, downloads, tmp_path, monkeypatch):
  url = upload(corpus, f"{bucket}/again")
  change = dict(train=((f"{url}/manifest.json", "all"),), cache=str(tmp_path / "facts"))
  first = corpora.open_pipeline(corpus, **change)
  assert "a.mp4" in copies(downloads)
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "another"))
  remote.forget_versions()
  second = corpora.open_pipeline(corpus, **change)
  assert second.fingerprint == first.fingerprint
  assert not copies(tmp_path / "another")


def test_local_manifests_may_name_media_of_a_bucket(bucket, corpus, tmp_path):
  url = upload(corpus, f"{bucket}/named")
  records = json.loads((corpus / "manifest.json").read_text())[:1]
  records[0]["video"] = f"{url}/a.mp4"
  (tmp_path / "manifest.json").write_text(json.dumps(records))
  pipeline = corpora.open_pipeline(corpus, train=((str(tmp_path / "manifest.json"), "all"),))
  assert pipeline.plan.probes.descriptions().keys() == {f"{url}/a.mp4"}
  assert pipeline.plan.report["unreadable"] == 0


def test_a_changed_object_is_fetched_again(bucket, corpus):
  url = upload(corpus, f"{bucket}/changed")
  before = identity(f"{url}/a.mp4")
  fsspec.filesystem(url[:2]).pipe_file(f"{url}/a.mp4", (corpus / "b.mp4").read_bytes())
  remote.forget_versions()
  assert identity(f"{url}/a.mp4") != before
  content = pathlib.Path(remote.local_path(f"{url}/a.mp4")).read_bytes()
  assert content == (corpus / "b.mp4").read_bytes()


def test_an_incomplete_copy_is_fetched_again(bucket, corpus):
  url = upload(corpus, f"{bucket}/cut")
  path = remote.local_path(f"{url}/wide.png")
  os.truncate(path, 10)
  remote.local_path(f"{url}/wide.png")
  assert pathlib.Path(path).read_bytes() == (corpus / "wide.png").read_bytes()


def test_threads_fetch_once(bucket, corpus, monkeypatch):
  url = upload(corpus, f"{bucket}/once")
  fetched = []
  fetch = remote._fetch
  monkeypatch.setattr(remote, "_fetch", lambda *args: fetched.append(args) or fetch(*args))
  threads = [threading.Thread(target=remote.local_path, args=(f"{url}/a.mp4",)) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(fetched) == 1


def test_processes_fetch_once(bucket, corpus, downloads):
  url = upload(corpus, f"{bucket}/processes")
  code = f"from data_pipelines.media import remote; print(remote.local_path('{url}/a.mp4'))"
  started = []
  for _ in range(3):
    command = [sys.executable, "-c", code]
    started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
  paths = {process.communicate(timeout=60)[0].strip() for process in started}
  assert len(paths) == 1
  assert pathlib.Path(paths.pop()).read_bytes() == (corpus / "a.mp4").read_bytes()
  assert copies(downloads) == ["a.mp4"]


def test_a_fault_that_passes_is_tried_again(bucket, corpus, monkeypatch, capsys):
  url = upload(corpus, f"{bucket}/fault")
  monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0))
  store = remote._store
  faults = [ConnectionResetError("reset by peer")]

  def failing(url):
    if faults:
      raise faults.pop()
    return store(url)

  monkeypatch.setattr(remote, "_store", failing)
  assert os.path.getsize(remote.local_path(f"{url}/a.mp4"))
  assert "reset by peer" in capsys.readouterr().err


def test_records_of_shards(bucket, tmp_path):
  for shard in range(2):
    writer = array_record_module.ArrayRecordWriter(
      str(tmp_path / f"x.array_record-0000{shard}-of-00002"), ""
    )
    writer.write(f"record {shard}".encode())
    writer.close()
  url = upload(tmp_path, f"{bucket}/shards")
  assert array_record.read_record(f"{url}/x.array_record", "1") == b"record 1"


def test_a_missing_object(bucket):
  with pytest.raises(MediaError, match=r"absent.mp4: does not exist"):
    read_frames(f"{bucket}/absent.mp4", [0.0], 32)


def test_a_missing_bucket(bucket):
  scheme = bucket.partition("://")[0]
  with pytest.raises(MediaError, match=f"there is no bucket {scheme}://nowhere"):
    read_frames(f"{scheme}://nowhere/a.mp4", [0.0], 32)


def test_a_missing_package(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(MediaError, match=r"pip install 'filax\[gcs\]'"):
    read_frames("gs://data/a.mp4", [0.0], 32)


def test_a_name_stays_in_its_bucket():
  assert remote._normal("gs://data/a/../../../b/./c.mp4") == "gs://data/b/c.mp4"


def test_a_checkpoint_of_a_bucket_answers(google, tmp_path, corpus):
  folder = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  url = upload(folder, f"{google}/run")
  upload(corpus, f"{google}/media")
  expected = filax.load(folder).ask(str(corpus / "a.mp4"), "What?")
  assert filax.load(url).ask(f"{google}/media/a.mp4", "What?") == expected


def test_a_manifest_of_a_missing_bucket(bucket, corpus):
  url = f"{bucket.partition('://')[0]}://nowhere/train.json"
  with pytest.raises(ValueError, match=r"nowhere/train.json cannot be read: there is no bucket"):
    corpora.open_pipeline(corpus, train=((url, "all"),))


def test_a_manifest_that_is_missing(bucket, corpus):
  with pytest.raises(ValueError, match=r"absent.json cannot be read: there is no such object"):
    corpora.open_pipeline(corpus, train=((f"{bucket}/absent.json", "all"),))


def test_without_a_log_in(monkeypatch):
  def denied(url):
    raise PermissionError("Anonymous caller does not have storage.objects.get access")

  monkeypatch.setattr(remote, "_store", denied)
  with pytest.raises(MediaError, match=r"gs://data/a.mp4: access is denied.*log in \(gcloud"):
    read_frames("gs://data/a.mp4", [0.0], 32)


def test_a_cache_in_a_bucket_is_refused(corpus):
  with pytest.raises(ValueError, match="Set it to a folder of this machine"):
    corpora.open_pipeline(corpus, cache="gs://data/cache")


def test_load_names_what_is_missing(google):
  with pytest.raises(FileNotFoundError, match="There is nothing at gs://data/absent"):
    filax.load(f"{google}/absent")
