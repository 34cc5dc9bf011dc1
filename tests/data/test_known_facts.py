# SPDX-License-Identifier: Apache-2.0
"""Media that are known are looked up together, and give what looking one by one gives."""

import os
import pickle
import sqlite3
import stat

import pytest

from data_pipelines.media import index
from data_pipelines.media.facts_store import FactsStore
from data_pipelines.media.index import MediaIndex
from data_pipelines.media.known_facts import KnownFacts
from data_pipelines.media.probe import probe
from data_pipelines.synthesis.labels.cache import AnswerCache
from filax.testing import clips


@pytest.fixture
def cache(tmp_path):
  return tmp_path / "cache" / "index.sqlite"


@pytest.fixture
def media(tmp_path, cache):
  """Files, a folder of pictures and a missing file, all asked for once."""
  media = [clips.write_video(tmp_path / f"{number}.mp4", 10 + number) for number in range(3)]
  media.append(clips.write_picture(tmp_path / "c.png"))
  media.append(clips.write_picture_folder(tmp_path / "folder", 3))
  media.append(str(tmp_path / "missing.mp4"))
  MediaIndex(cache, progress=None).probes(media)
  return media


def test_files_that_did_not_change_are_known(media, cache):
  look_up = pickle.loads(pickle.dumps(KnownFacts(str(cache), "")))
  assert look_up(media) == [*map(probe, media[:4]), None, None]


def test_a_changed_file_is_not_known(media, cache):
  clips.write_video(media[0], 30)
  os.utime(media[1], (1, 1))
  os.truncate(media[2], 0)
  assert KnownFacts(str(cache), "")(media[:3]) == [None] * 3


def test_a_file_that_came_back_gets_its_last_facts_anew(media, cache):
  """Its identity is known, but another file has stood under its path since."""
  store = FactsStore(cache)
  store.put(f"path:{media[0]}", probe(media[1]))
  store.commit()
  store.close()
  assert KnownFacts(str(cache), "")(media[:1]) == [None]
  found = MediaIndex(cache, progress=None).probes(media[:1])
  assert found == {media[0]: probe(media[0])}
  assert KnownFacts(str(cache), "")(media[:1]) == [probe(media[0])]


def test_damaged_rows_and_files_are_not_known(media, cache, tmp_path):
  connection = sqlite3.connect(cache)
  connection.execute("UPDATE facts SET row = replace(row, '10', '11')")
  connection.commit()
  connection.close()
  assert KnownFacts(str(cache), "")(media[:1]) == [None]
  cache.write_bytes(b"no database" * 1000)
  assert KnownFacts(str(cache), "")(media[:1]) == [None]
  assert KnownFacts(str(tmp_path / "away.sqlite"), "")(media[:1]) == [None]
  assert not (tmp_path / "away.sqlite").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_all_media_come_in_order(processes, media, cache, monkeypatch):
  monkeypatch.setattr(index, "_QUEUE", 2)
  monkeypatch.setattr(index, "_MANY", 1)
  monkeypatch.setattr(index, "default_processes", lambda: processes)
  clips.write_video(media[1], 30)
  listed = [*media, *media[:2]]
  planned = {media[2]: index.UNREADABLE}
  found = list(MediaIndex(cache, progress=None, planned=planned).each(listed))
  assert [name for name, _ in found] == listed
  for name, facts in found:
    if name == media[2]:
      assert "when this run's plan was made" in facts.error
    else:
      assert facts == probe(name), name


@pytest.mark.parametrize("kind", [FactsStore, AnswerCache])
def test_the_members_of_a_group_share_a_cache(tmp_path, kind):
  """Where the umask says so; SQLite alone would let them read only."""
  file = tmp_path / "cache.sqlite"
  before = os.umask(0o002)
  try:
    kind(file)
  finally:
    os.umask(before)
  assert stat.S_IMODE(file.stat().st_mode) == 0o664
