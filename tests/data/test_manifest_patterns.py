# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from data_pipelines.manifest import patterns
from data_pipelines.manifest.report import ManifestError


def touch(folder, *names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def shards(count, folder="."):
  return [str(pathlib.Path(folder, f"train-{n:05}-of-{count:05}.jsonl")) for n in range(count)]


def test_a_pattern_stands_for_its_files_in_the_order_of_their_names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  touch(tmp_path, *shards(3), "b/1.tar", "a/2.tar", "mine.json")
  mixture = (("train-*.jsonl", "random:10%"), ("mine.json", "first:9"), ("?/*.tar", "all"))
  assert patterns.listed_mixture(mixture) == (
    *((path, "random:10%") for path in shards(3)),
    ("mine.json", "first:9"),
    ("a/2.tar", "all"),
    ("b/1.tar", "all"),
  )


def test_a_name_that_exists_is_no_pattern(tmp_path):
  touch(tmp_path, "what?.json", "whats.json", "part[1]/a.json", "part1/a.json")
  for name in ("what?.json", "part[1]/a.json", "no.json", "no[1].json"):
    assert patterns.manifest_paths(str(tmp_path / name)) == [str(tmp_path / name)]
  found = patterns.manifest_paths(str(tmp_path / "part[1]" / "*.json"))
  assert found == [str(tmp_path / "part[1]" / "a.json")]


def test_a_missing_shard_is_named(tmp_path):
  touch(tmp_path, *(name for name in shards(12) if "00007" not in name))
  for pattern in ("train-*.jsonl", "train-*-of-00012.jsonl", "*.jsonl"):
    with pytest.raises(ManifestError, match=r"train-00007-of-00012\.jsonl is missing"):
      patterns.manifest_paths(tmp_path / pattern)
  chosen = patterns.manifest_paths(tmp_path / "train-0000?-of-*.jsonl")
  assert len(chosen) == 9


def test_shards_may_be_numbered_from_1(tmp_path):
  names = [f"data-{number:05}-of-00004.parquet" for number in range(1, 5)]
  touch(tmp_path, *names)
  assert patterns.manifest_paths(tmp_path / "*.parquet") == [str(tmp_path / n) for n in names]
  (tmp_path / names[1]).unlink()
  with pytest.raises(ManifestError, match=r"fits 3 files, but .*data-00002-of-00004"):
    patterns.manifest_paths(tmp_path / "*.parquet")


@pytest.mark.parametrize(
  ("name", "strategy", "message"),
  [
    ("none-*.json", "all", r"No file fits the pattern .*none-\*\.json\."),
    ("gs://mine/train-*.json", "all", "is a pattern in a bucket"),
    ("train-*.jsonl", "first:100", "fits 3 files, and first:100 would take that number of each"),
  ],
)
def test_what_cannot_be_listed_is_refused(tmp_path, name, strategy, message):
  touch(tmp_path, *shards(3))
  path = name if "://" in name else str(tmp_path / name)
  with pytest.raises(ManifestError, match=message):
    patterns.listed_mixture([(path, strategy)])
