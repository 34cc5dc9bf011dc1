# SPDX-License-Identifier: Apache-2.0
"""A limit of open files costs no sample: many manifests fit, and no sound medium is masked."""

import contextlib
import json
import resource

import pytest

from data_pipelines.media.open import UnfitProcess
from data_pipelines.packing import sample_table
from filax.testing import corpora

MANIFESTS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


@contextlib.contextmanager
def no_file_may_be_opened():
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_manifests_than_may_be_open(folder, monkeypatch):
  monkeypatch.setattr(sample_table, "open_file_limit", lambda: 32)
  manifests = []
  for number in range(MANIFESTS):
    path = folder / f"many-{number}.jsonl"
    path.write_text(json.dumps({"question": f"words {number}", "answer": "a"}) + "\n")
    manifests.append((str(path), "all"))
  samples = corpora.open_pipeline(folder, train=tuple(manifests)).plan.samples
  for number in (*range(MANIFESTS), 0):
    assert f"words {number}" in str(samples[number].turns)
    assert len(samples._files) <= 16


def test_a_limit_that_is_reached_masks_nothing(folder, tmp_path):
  listed = tmp_path / "quarantine.jsonl"
  pipeline = corpora.open_pipeline(folder, quarantine=listed)
  materialise = pipeline.materialise()
  row = next(row for row in map(pipeline.row, range(9)) if materialise(row)["frames"].any())
  bad = materialise(row)["num_bad"]
  before = listed.read_bytes() if listed.exists() else b""
  with no_file_may_be_opened(), pytest.raises(UnfitProcess, match=r"ulimit -n\), which is 3 "):
    materialise(row)
  assert (listed.read_bytes() if listed.exists() else b"") == before
  assert materialise(row)["num_bad"] == bad


def test_a_manifest_is_not_blamed_for_the_limit(folder):
  samples = corpora.open_pipeline(folder).plan.samples
  samples._files.clear()
  with no_file_may_be_opened(), pytest.raises(UnfitProcess, match="too many files are open"):
    samples[0]
