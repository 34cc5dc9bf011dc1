# SPDX-License-Identifier: Apache-2.0
from filax.train.workdir import fetch_file, local_folder, publish_file


def test_a_local_workdir_is_itself(tmp_path):
  workdir = tmp_path / "a" / "b"
  assert local_folder(workdir) == workdir and workdir.is_dir()
  path = fetch_file(workdir, "metrics.jsonl")
  assert path == workdir / "metrics.jsonl" and not path.exists()
  path.write_text("1\n")
  publish_file(workdir, path)
  assert fetch_file(workdir, "metrics.jsonl").read_text() == "1\n"


def test_a_bucket_has_a_folder_here(tmp_path, monkeypatch):
  for name in ("FILAX_CACHE", "XDG_CACHE_HOME"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  one, same, other = (local_folder(f"gs://bucket/{name}") for name in ("run", "run/", "run2"))
  assert one == same != other and one.is_dir() and tmp_path in one.parents
