# SPDX-License-Identifier: Apache-2.0
"""A cache of frames changes nothing but the time it takes."""

import io
import multiprocessing
import os
import pathlib
import pickle
import tempfile
import threading
import time

import numpy as np
import pytest

from data_pipelines.media import frames as video
from data_pipelines.media.cache import FrameCache
from data_pipelines.sample import Scene
from filax import files as files_lib
from filax.files import write_checked
from filax.testing import clips, interrupted

SIZE = 32
TIMES = [3.3, 0.0, 0.05, 2.999, 3.9, 50.0, -1.0, 0.1]


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
  monkeypatch.setattr(files_lib, "_reported", set())


@pytest.fixture
def clip(tmp_path):
  return clips.write_video(tmp_path / "clip.mp4", gop=7)


@pytest.fixture
def cache(tmp_path):
  return FrameCache(tmp_path / "cache", SIZE)


def files(cache, suffix=".npy"):
  return sorted(p for p in cache.folder.iterdir() if p.name.endswith(suffix))


def same(ours, theirs):
  for a, b in zip(ours, theirs, strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def no_decoding(monkeypatch):
  def refuse(*arguments, **more):
    raise AssertionError("decoded again")

  monkeypatch.setattr("data_pipelines.media.cache.walk", refuse)
  monkeypatch.setattr("data_pipelines.media.cache.read_frames", refuse)


@pytest.mark.parametrize("kind", ["h264", "vfr", "turned", "folder", "bytes", "still"])
def test_frames_are_bit_identical(kind, tmp_path, cache, monkeypatch):
  times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.3, 40))
  media = {
    "h264": lambda: clips.write_video(tmp_path / "a.mp4", options={"bf": "4"}),
    "vfr": lambda: clips.write_video(tmp_path / "a.mp4", 40, 30, times=times),
    "turned": lambda: clips.write_video(tmp_path / "a.mp4", rotation=90),
    "folder": lambda: clips.write_picture_folder(tmp_path / "frames"),
    "bytes": lambda: pathlib.Path(clips.write_video(tmp_path / "a.mp4")).read_bytes(),
    "still": lambda: clips.write_picture(tmp_path / "a.png", 9),
  }[kind]()
  direct = video.read_frames(media, TIMES, SIZE)
  same(cache.read_frames(media, TIMES, SIZE), direct)
  no_decoding(monkeypatch)
  same(cache.read_frames(media, TIMES, SIZE), direct)


def test_other_sizes_and_padding_go_past_the_cache(clip, cache):
  assert cache.read_frames(clip, [0.0], 16)[0].shape == (1, 16, 16, 3)
  cache.read_frames(clip, [0.0], SIZE, resize="pad")
  assert not files(cache)


def test_a_changed_file_is_decoded_again(clip, cache):
  assert clips.read_numbers(cache.read_frames(clip, [1.0], SIZE)[0]) == [10]
  clips.write_video(clip, 30, first=100)
  os.utime(clip, (1, 1))
  assert clips.read_numbers(cache.read_frames(clip, [1.0], SIZE)[0]) == [110]


def test_damaged_cache_files_are_written_again(clip, cache, monkeypatch):
  direct = video.read_frames(clip, TIMES, SIZE)
  cache.read_frames(clip, TIMES, SIZE)
  pixels, times = files(cache)
  for path in (pixels, times):
    sound = path.read_bytes()
    inside = len(sound) * 3 // 4
    for damaged in (
      b"",
      sound[:60],
      sound[:inside],
      sound[:inside] + bytes(b ^ 255 for b in sound[inside:]),
    ):
      path.write_bytes(damaged)
      same(cache.read_frames(clip, TIMES, SIZE), direct)
      assert path.read_bytes() == sound
  pixels.unlink()
  same(cache.read_frames(clip, TIMES, SIZE), direct)
  no_decoding(monkeypatch)
  same(cache.read_frames(clip, TIMES, SIZE), direct)


def test_broken_media_fail_as_without_a_cache(tmp_path, cache):
  times = np.arange(40) / 10
  for name, (make, says) in clips.BROKEN_VIDEOS.items():
    path = make(tmp_path / name)
    with pytest.raises(video.MediaError, match=says) as direct:
      video.read_frames(path, times, SIZE)
    with pytest.raises(video.MediaError) as cached:
      cache.read_frames(path, times, SIZE)
    assert str(cached.value) == str(direct.value)
  sound_part = [0.0, 0.5]
  path = clips.write_corrupt(tmp_path / "corrupt.mp4")
  same(cache.read_frames(path, sound_part, SIZE), video.read_frames(path, sound_part, SIZE))
  assert not list(cache.folder.iterdir())


def test_a_video_over_the_limit_is_not_cached(clip, tmp_path):
  cache = FrameCache(tmp_path / "cache", SIZE, limit=10 * SIZE * SIZE * 3)
  same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
  assert not list(cache.folder.iterdir())


def test_timelines_read_through_the_cache(clip, cache):
  timeline = (Scene(clip, t0=1.0, t1=2.0), Scene(clip, t0=3.0, t1=4.0, at=1.0))
  times = np.arange(20) / 10
  same(
    video.read_timeline(timeline, times, SIZE, read=cache.read_frames),
    video.read_timeline(timeline, times, SIZE),
  )
  assert len(files(cache)) == 2


def _read(cache, clip, out):
  out.append(cache.read_frames(clip, TIMES, SIZE)[0].tobytes())


def test_threads_and_processes_share_a_folder(clip, cache):
  expected, out = video.read_frames(clip, TIMES, SIZE)[0].tobytes(), []
  threads = [threading.Thread(target=_read, args=(cache, clip, out)) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  other = FrameCache(cache.folder / "processes", SIZE)
  with multiprocessing.get_context("spawn").Pool(2) as pool:
    done = pool.starmap(FrameCache.read_frames, [(other, clip, TIMES, SIZE)] * 4)
  assert out == [expected] * 4
  assert [frames.tobytes() for frames, _ in done] == [expected] * 4
  assert not files(cache, ".tmp") and not files(other, ".tmp")


def test_a_cache_can_be_pickled(clip, cache):
  same(
    pickle.loads(pickle.dumps(cache)).read_frames(clip, TIMES, SIZE),
    video.read_frames(clip, TIMES, SIZE),
  )


# Damage: never other frames, never an end of the run.


def version(path):
  """Tells whether a file was written anew: it is another file then."""
  return path.stat().st_ino


def check_rebuilt(cache, clip, path, sound, direct, capsys):
  before = version(path)
  for again in (cache, FrameCache(cache.folder, SIZE)):
    same(again.read_frames(clip, TIMES, SIZE), direct)
  assert path.read_bytes() == sound and version(path) != before
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and str(path) in line, line


@pytest.fixture
def short(tmp_path):
  """Three frames, so that each byte of the cache can be tried."""
  return clips.write_video(tmp_path / "short.mp4", 3)


def test_a_flipped_byte_is_never_another_frame(short, cache, capsys):
  direct = video.read_frames(short, TIMES, SIZE)
  cache.read_frames(short, TIMES, SIZE)
  pixels, table = files(cache)
  for path, step in ((table, 3), (pixels, 301)):
    sound = path.read_bytes()
    places = {*range(0, len(sound), step), *range(0, min(len(sound), 140), 9)}
    for place in sorted(places):
      damaged = bytearray(sound)
      damaged[place] ^= 1 << place % 8
      path.write_bytes(damaged)
      check_rebuilt(cache, short, path, sound, direct, capsys)


def test_a_cut_is_never_another_frame(short, cache, capsys):
  direct = video.read_frames(short, TIMES, SIZE)
  cache.read_frames(short, TIMES, SIZE)
  for path in files(cache):
    sound = path.read_bytes()
    for length in {*range(0, len(sound), len(sound) // 20), len(sound) - 1}:
      path.write_bytes(sound[:length])
      check_rebuilt(cache, short, path, sound, direct, capsys)
    path.write_bytes(sound + b"\0")
    check_rebuilt(cache, short, path, sound, direct, capsys)


HEADERS = {
  "bomb": b"{'descr': [('second', '<f8'), ('checksum', '<u4')], 'fortran_order': False, "
  b"'shape': (1152921504606846976,), }",
  "negative": b"{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }",
  "token": b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, }",
  "syntax": b"{'descr': '<f8' 'fortran_order' False",
  "nested": b"(" * 5000,
  "object": b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
  "scalar": b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
  "empty": b"{'descr': [('second', '<f8'), ('checksum', '<u4')], 'fortran_order': False, "
  b"'shape': (0,), }",
}


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_no_end(name, checked, short, cache, capsys):
  direct = video.read_frames(short, TIMES, SIZE)
  cache.read_frames(short, TIMES, SIZE)
  table = files(cache)[1]
  sound = table.read_bytes()
  header = HEADERS[name]
  content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(72)
  if checked:  # Even with a right digest.
    write_checked(table, content, table.name.removesuffix(".times.npy"))
  else:
    table.write_bytes(content)
  check_rebuilt(cache, short, table, sound, direct, capsys)


def test_archives_and_pickles_are_no_end(short, cache, capsys):
  direct = video.read_frames(short, TIMES, SIZE)
  cache.read_frames(short, TIMES, SIZE)
  table = files(cache)[1]
  sound = table.read_bytes()
  for content in (b"PK\x03\x04" + bytes(80), pickle.dumps(direct[1]), b"\x93NUMPY"):
    table.write_bytes(content)
    check_rebuilt(cache, short, table, sound, direct, capsys)


def test_the_files_of_another_video_are_not_taken(short, cache, tmp_path, capsys):
  other = clips.write_video(tmp_path / "other.mp4", 3, first=90)
  direct = video.read_frames(short, TIMES, SIZE)
  cache.read_frames(short, TIMES, SIZE)
  own = files(cache)
  cache.read_frames(other, TIMES, SIZE)
  others = [path for path in files(cache) if path not in own]
  sound = [path.read_bytes() for path in own]
  for mine, theirs in zip(own, others, strict=True):
    mine.write_bytes(theirs.read_bytes())
  same(cache.read_frames(short, TIMES, SIZE), direct)
  own[0].write_bytes(others[0].read_bytes())  # The pixels alone.
  same(cache.read_frames(short, TIMES, SIZE), direct)
  assert [path.read_bytes() for path in own] == sound


def test_a_frame_at_another_time_is_damage(short, cache, capsys):
  cache.read_frames(short, TIMES, SIZE)
  pixels, table = files(cache)
  rows = np.load(io.BytesIO(table.read_bytes().partition(b"\n")[2]))
  rows["second"] += 0.01
  content = io.BytesIO()
  np.save(content, rows)
  write_checked(table, content.getbuffer(), table.name.removesuffix(".times.npy"))
  same(cache.read_frames(short, TIMES, SIZE), video.read_frames(short, TIMES, SIZE))
  assert str(pixels) in capsys.readouterr().err


def test_rates_of_folders_are_told_apart(tmp_path, cache):
  folder = clips.write_picture_folder(tmp_path / "frames")
  for fps in (3.0, 3.0000001, 1 / 3):
    same(
      cache.read_frames(folder, TIMES, SIZE, fps=fps),
      video.read_frames(folder, TIMES, SIZE, fps=fps),
    )
  assert len(files(cache)) == 6


# Folders that cannot be written, and writers that are killed.


def test_a_folder_that_cannot_be_made_costs_a_line(clip, tmp_path, capsys):
  blocked = tmp_path / "blocked"
  blocked.write_bytes(b"")
  for folder in (blocked, blocked / "below"):
    cache = FrameCache(folder, SIZE)
    for _ in range(2):
      same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"{folder} cannot be written" in line


def test_a_read_only_cache_is_read(capsys, monkeypatch):
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    folder.chmod(0o755)
    kept, other = (clips.write_video(folder / f"{letter}.mp4", 20) for letter in "ab")
    direct = video.read_frames(other, TIMES, SIZE)
    expected = FrameCache(folder / "cache", SIZE).read_frames(kept, TIMES, SIZE)
    with interrupted.read_only_folder(folder / "cache"):
      cache = FrameCache(folder / "cache", SIZE)
      with monkeypatch.context() as patch:
        no_decoding(patch)
        same(cache.read_frames(kept, TIMES, SIZE), expected)
      assert capsys.readouterr().err == ""
      same(cache.read_frames(other, TIMES, SIZE), direct)
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and "cache cannot be written (Permission denied)" in line


def test_files_that_another_user_has_closed_cost_one_line(capsys, monkeypatch):
  """A shared cache, filled under umask 077."""
  monkeypatch.setattr(files_lib, "_reported", set())
  with tempfile.TemporaryDirectory() as folder:  # pytest's own folder is closed to other users.
    paths = [pathlib.Path(folder, name) for name in ("a", "b", "c")]
    for path in paths:
      write_checked(path, b"content")
      path.chmod(0)
    with interrupted.read_only_folder(pathlib.Path(folder)):
      assert [files_lib.read_cache(path, bytes) for path in paths] == [None] * 3
  assert capsys.readouterr().err.splitlines() == [
    f"{paths[0]} cannot be read (Permission denied). All such files of its folder are made anew."
  ]


def test_a_full_disk_costs_a_line_and_no_second_try(clip, tmp_path, cache, capsys, monkeypatch):
  other = clips.write_video(tmp_path / "other.mp4")
  with interrupted.full_disk(5 * SIZE * SIZE * 3):
    same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
  assert not list(cache.folder.iterdir())
  monkeypatch.setattr("data_pipelines.media.cache.walk", None)
  for media in (clip, other):
    same(cache.read_frames(media, TIMES, SIZE), video.read_frames(media, TIMES, SIZE))
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and f"{cache.folder} cannot be written" in line


def test_a_disk_that_is_nearly_full_is_left_to_others(clip, cache, capsys, monkeypatch):
  monkeypatch.setattr("data_pipelines.media.cache._LEFT_SHARE", 1.01)  # No disk is so empty.
  monkeypatch.setattr("data_pipelines.media.cache._LEFT_BYTES", 1e18)
  for _ in range(2):
    same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
  assert not list(cache.folder.iterdir())
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and "GB of the disk are free)" in line


def test_leftovers_of_killed_writers_are_removed(clip, cache):
  path = str(cache.folder / "0123-32.npy")
  interrupted.kill_writer(f"write_atomically({path!r})", "out.write(b'half')")
  theirs = cache.folder / "theirs.tmp"
  theirs.write_bytes(b"")
  assert len(list(cache.folder.iterdir())) == 2
  FrameCache(cache.folder, SIZE)
  assert list(cache.folder.iterdir()) == [theirs]


def test_a_filler_that_is_killed_leaves_a_sound_cache(clip, cache):
  context = multiprocessing.get_context("spawn")
  filler = context.Process(target=_fill_slowly, args=(cache, clip))
  filler.start()
  deadline = time.monotonic() + 60
  while not files(cache, ".tmp"):
    assert time.monotonic() < deadline and filler.is_alive()
    time.sleep(0.01)
  same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
  filler.kill()
  filler.join()
  again = FrameCache(cache.folder, SIZE)
  assert len(list(cache.folder.iterdir())) == 2
  same(again.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))


def _fill_slowly(cache, clip):
  walk = video.walk

  def slow(*arguments, **more):
    for frame in walk(*arguments, **more):
      yield frame
      time.sleep(60)

  video.walk = slow
  cache.read_frames(clip, TIMES, SIZE)
