# SPDX-License-Identifier: Apache-2.0
"""Planned files that no run uses any more are removed from a cache folder; others stay."""

import gc
import os
import pickle
import time

import pytest

from data_pipelines.media.index import MediaIndex
from data_pipelines.media.planned_media import probe_media
from data_pipelines.unused_files import DAYS
from filax.testing import clips, corpora, manifests


def open_plan(folder, cache, answer):
  manifests.write_manifest(
    folder / "manifest.json", [manifests.question_record("Is it?", answer)] * 3
  )
  return corpora.open_pipeline(folder, cache=str(cache)).plan


def planned(cache):
  return {path.name for path in cache.iterdir() if "-" in path.name and path.name[:3] != "med"}


def make_old(cache):
  then = time.time() - (DAYS + 1) * 24 * 60 * 60
  for name in [*planned(cache), *(path.name for path in cache.glob("media-*"))]:
    os.utime(cache / name, (then, then))


def kinds(names):
  return sorted(name.partition("-")[0] for name in names)


@pytest.mark.skipif(os.name == "nt", reason="Without flock, only the time tells.")
def test_what_is_not_used_is_removed(tmp_path):
  cache = tmp_path / "cache"
  (cache / "rows-of-mine").mkdir(parents=True)
  first = open_plan(tmp_path, cache, "Yes.")
  of_first = planned(cache) - {"rows-of-mine"}
  assert kinds(of_first) == ["rows", "samples", "sizes"]
  make_old(cache)

  open_plan(tmp_path, cache, "No.")
  assert kinds(planned(cache) & of_first) == ["samples"], "a running plan keeps its samples"
  assert len(pickle.loads(pickle.dumps(first.samples))) == 3  # A worker that starts now.
  assert first.row(0).samples, "mapped rows stay readable"

  del first
  gc.collect()
  make_old(cache)
  last = open_plan(tmp_path, cache, "Perhaps.")
  assert kinds(planned(cache)) == ["rows", "rows", "samples", "sizes"]
  assert (cache / "rows-of-mine").exists(), "other files are not ours"
  make_old(cache)
  again = corpora.open_pipeline(tmp_path, cache=str(cache)).plan  # Of the same file.
  assert again.fingerprint == last.fingerprint
  assert kinds(planned(cache)) == ["rows", "rows", "samples", "sizes"], "used files stay"


@pytest.mark.skipif(os.name == "nt", reason="Without flock, only the time tells.")
def test_tables_of_media_that_are_not_used_are_removed(tmp_path):
  cache = tmp_path / "cache"
  picture = clips.write_picture(tmp_path / "a.png")
  table = probe_media([picture], MediaIndex(progress=None), str(cache))
  assert len(list(cache.glob("media-*"))) == 2, "the table and the name of the newest"
  make_old(cache)
  open_plan(tmp_path, cache, "Yes.")
  folder = table.folder
  assert folder.exists() and len(pickle.loads(pickle.dumps(table))) == 1

  del table
  gc.collect()
  make_old(cache)
  open_plan(tmp_path, cache, "No.")
  assert not folder.exists()
  tables = [path for path in cache.glob("media-*") if path.is_dir()]
  assert len(tables) == 1, "that of the plan in use stays"
  assert probe_media([picture], MediaIndex(progress=None), str(cache))[picture].width == 64
