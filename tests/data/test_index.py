# SPDX-License-Identifier: Apache-2.0
"""The index looks at every medium once and remembers it while it does not change."""

import dataclasses
import io
import json
import multiprocessing
import os
import sqlite3
import time
import types

import pytest

from data_pipelines.media import frames as video
from data_pipelines.media import index, planned_media
from data_pipelines.media.index import MediaIndex
from data_pipelines.sample import Sample, Scene
from filax import files, progress
from filax.testing import clips, interrupted


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
  monkeypatch.setattr(files, "_reported", set())


@pytest.fixture
def media(tmp_path):
  broken = [make(tmp_path / name) for name, (make, _) in clips.BROKEN_VIDEOS.items()]
  return [
    clips.write_video(tmp_path / "a.mp4", 20),
    clips.write_picture_folder(tmp_path / "b", 3),
    clips.write_picture(tmp_path / "c.png"),
    *broken,
  ]


def test_probes_are_those_of_video(media):
  found = MediaIndex(progress=None).probes([*media, media[0]])
  assert list(found) == media
  assert found == {name: video.probe(name) for name in media}
  assert (
    sum(bool(p.error) for p in found.values()) == len(clips.BROKEN_VIDEOS) - 1
  )  # Not the corrupt one.


def test_the_cache_saves_work_until_a_file_changes(media, tmp_path, monkeypatch):
  cache = tmp_path / "cache" / "index.sqlite"
  first = MediaIndex(cache, progress=None).probes(media)
  calls, real = [], index.probe
  monkeypatch.setattr(index, "probe", lambda m, *more: calls.append(m) or real(m, *more))
  assert MediaIndex(cache, progress=None).probes(media) == first
  assert all(first[name].error for name in calls)  # Errors are looked at again.
  calls.clear()
  clips.write_video(media[0], 30)
  os.utime(media[0], (1, 1))
  assert MediaIndex(cache, progress=None).probes(media[:3])[media[0]].frames == 30
  assert calls == media[:1]
  assert [p.name for p in cache.parent.iterdir()] == ["index.sqlite"]


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "\0" * 99, "SQLite format 3\0" * 300])
def test_a_damaged_cache_is_replaced(text, media, tmp_path, capsys):
  cache = tmp_path / "index.sqlite"
  cache.write_text(text)
  assert MediaIndex(cache, progress=None).probes(media[:1])[media[0]].frames == 20
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and str(cache) in line
  keys = [key for (key,) in sqlite3.connect(cache).execute("SELECT key FROM facts")]
  assert len([key for key in keys if not key.startswith("path:")]) == 1


def test_flipped_bytes_never_change_a_probe(media, tmp_path):
  cache = tmp_path / "index.sqlite"
  sound = MediaIndex(cache, threads=1, progress=None).probes(media[:2])
  written = cache.read_bytes()
  for place in range(0, len(written), 61):
    damaged = bytearray(written)
    damaged[place] ^= 1 << place % 8
    cache.write_bytes(damaged)
    assert MediaIndex(cache, threads=1, progress=None).probes(media[:2]) == sound, place


def test_a_changed_row_is_measured_again(media, tmp_path, capsys):
  cache = tmp_path / "index.sqlite"
  sound = MediaIndex(cache, progress=None).probes(media[:1])
  with sqlite3.connect(cache) as connection:
    connection.execute("UPDATE facts SET row = replace(row, '20', '21')")
  assert MediaIndex(cache, progress=None).probes(media[:1]) == sound
  assert str(cache) in capsys.readouterr().err


def test_an_index_of_an_earlier_version_is_taken_over(media, tmp_path, monkeypatch):
  facts = dataclasses.replace(video.probe(media[0]), frames=77)
  key = index.identity(media[0])
  content = json.dumps({key: dataclasses.astuple(facts)[:-1]}).encode()
  files.write_cache(tmp_path / "index.json", content)
  assert MediaIndex(tmp_path / "index.sqlite", progress=None).probes(media[:1])[media[0]] == facts
  (tmp_path / "index.json").unlink()
  assert MediaIndex(tmp_path / "index.sqlite", progress=None).probes(media[:1])[media[0]] == facts


def test_a_folder_that_cannot_be_written_costs_a_line(media, tmp_path, capsys):
  blocked = tmp_path / "blocked"
  blocked.write_bytes(b"")
  index = MediaIndex(blocked / "index.sqlite", progress=None)
  assert index.probes(media[:1])[media[0]].frames == 20
  assert index.probes(media[:3])[media[2]].frames == 1
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and f"{blocked} cannot be written" in line


def test_processes_fill_an_index_at_once(media, tmp_path):
  cache = tmp_path / "cache" / "index.sqlite"
  expected = MediaIndex(progress=None).probes(media)
  with multiprocessing.get_context("spawn").Pool(2) as pool:
    results = pool.starmap(probed, [(cache, media)] * 4, chunksize=1)
  assert results == [expected] * 4
  assert [path.name for path in cache.parent.iterdir()] == ["index.sqlite"]
  assert MediaIndex(cache, progress=None).probes(media) == expected


def probed(cache, media):
  return MediaIndex(cache, progress=None).probes(media)


def test_leftovers_of_killed_writers_are_removed(media, tmp_path):
  cache = tmp_path / "cache" / "index.sqlite"
  interrupted.kill_writer(f"write_atomically({str(cache)!r})", "out.write(b'half')")
  MediaIndex(cache, progress=None).probes(media[:1])
  assert [path.name for path in cache.parent.iterdir()] == ["index.sqlite"]


def test_the_last_facts_of_a_path_stand_in_while_it_is_away(media, tmp_path):
  cache = tmp_path / "cache" / "index.sqlite"
  video_file, picture = media[0], media[2]
  first = MediaIndex(cache, progress=None).probes([video_file, picture])
  for name in (video_file, picture):
    os.rename(name, f"{name}.away")
  away = MediaIndex(cache, progress=None).probes([video_file, picture])
  for name, facts in away.items():
    assert "does not exist" in facts.error
    assert dataclasses.replace(facts, error="") == first[name]
  for name in (video_file, picture):
    os.rename(f"{name}.away", name)
  assert MediaIndex(cache, progress=None).probes([video_file, picture]) == first


def test_a_file_that_could_not_be_read_when_the_plan_was_made_stays_so(tmp_path):
  cache, name = tmp_path / "index.sqlite", str(tmp_path / "late.mp4")
  before = MediaIndex(cache, progress=None).probes([name])
  planned = {name: index.describe(before[name])}
  clips.write_video(name, 20)
  after = MediaIndex(cache, progress=None, planned=planned).probes([name])[name]
  assert after.frames == 0 and "it stays masked" in after.error
  assert MediaIndex(cache, progress=None).probes([name])[name].frames == 20


def test_planned_facts_stand_in_where_there_is_no_memory(media):
  planned = {name: index.describe(p) for name, p in MediaIndex(progress=None).probes(media).items()}
  facts = video.probe(media[0])
  assert index.parse_description(planned[media[0]]) == facts
  os.remove(media[0])
  away = MediaIndex(progress=None, planned=planned).probes(media[:1])[media[0]]
  assert away.error and dataclasses.replace(away, error="") == facts


def test_progress_says_count_rate_and_time_left(media, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
  out = io.StringIO()
  MediaIndex(threads=1, progress=out).probes(media[:4])
  assert "media 4/4, 1 unreadable, " in out.getvalue() and " s left\n" in out.getvalue()


def test_budgets_reach_the_media(media):
  found = MediaIndex(limits=video.Limits(packets=0), progress=None).probes(media[:1])
  assert "packets" in found[media[0]].error


def test_media_of_samples_are_distinct():
  samples = [
    Sample("1", (), ((Scene("a"),), (Scene("b"), Scene("a")))),
    Sample("2", ()),
    Sample("3", (), ((Scene("c"),),)),
  ]
  assert index.media_of(samples) == ["a", "b", "c"]


@pytest.mark.parametrize(
  "scenes, expected",
  [
    ((Scene("v"),), 10.0),
    ((Scene("v", t0=4.0),), 6.0),
    ((Scene("v", t0=4.0, t1=5.0),), 1.0),
    ((Scene("v", t1=99.0),), 10.0),
    ((Scene("v", t0=20.0),), 0.0),
    ((Scene("p", "image"),), 0.0),
    ((Scene("v"), Scene("p", "still", t1=2.0, at=9.0)), 11.0),
    ((Scene("v", t1=3.0), Scene("v", at=3.0)), 13.0),
  ],
)
def test_timeline_duration(scenes, expected):
  probes = {"v": video.Probe(frames=100, duration=10.0), "p": video.Probe(frames=1)}
  assert index.timeline_duration(scenes, probes) == expected


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_threads_look_at_files_where_each_look_takes_long(seconds, tmp_path, monkeypatch):
  """A network file system answers in a millisecond or more: alone, 1.6 million files take hours."""
  names = [str(tmp_path / f"{number}.mp4") for number in range(40)]
  for size, name in enumerate(names):
    (tmp_path / name).write_bytes(bytes(size))
  names[7:9] = [str(tmp_path), str(tmp_path / "absent.mp4")]
  looking = []
  at_once = []
  look = os.stat

  def slow_look(name):
    looking.append(name)
    at_once.append(len(looking))
    time.sleep(seconds)
    looking.remove(name)
    return look(name)

  monkeypatch.setattr(planned_media, "_CHUNK", 4)
  monkeypatch.setattr(planned_media, "_SLOW_SECONDS", 0.002)
  slow = types.SimpleNamespace(stat=slow_look, access=os.access, R_OK=os.R_OK)
  monkeypatch.setattr(planned_media, "os", slow)
  states = planned_media._states(names)
  assert states.shape == (40, 2)
  assert states[:, 0].tolist() == [*range(7), -1, -1, *range(9, 40)]
  assert (max(at_once) > 1) == (seconds > 0)
