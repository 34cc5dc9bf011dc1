# SPDX-License-Identifier: Apache-2.0
"""A cache of frames changes nothing but the time it takes."""

import multiprocessing
import os
import pathlib
import pickle
import threading

import clips
import numpy as np
import pytest

from data_pipelines.media import frames as video
from data_pipelines.media.cache import FrameCache
from data_pipelines.records import Scene

SIZE = 32
TIMES = [3.3, 0.0, 0.05, 2.999, 3.9, 50.0, -1.0, 0.1]


@pytest.fixture
def clip(tmp_path):
  return clips.write(tmp_path / "clip.mp4", gop=7)


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
  monkeypatch.setattr(video, "walk", refuse)
  monkeypatch.setattr(video, "read_frames", refuse)


@pytest.mark.parametrize("kind", ["h264", "vfr", "turned", "folder", "bytes", "still"])
def test_frames_are_bit_identical(kind, tmp_path, cache, monkeypatch):
  times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.3, 40))
  media = {
    "h264": lambda: clips.write(tmp_path / "a.mp4", options={"bf": "4"}),
    "vfr": lambda: clips.write(tmp_path / "a.mp4", 40, 30, times=times),
    "turned": lambda: clips.write(tmp_path / "a.mp4", rotation=90),
    "folder": lambda: clips.folder(tmp_path / "frames"),
    "bytes": lambda: pathlib.Path(clips.write(tmp_path / "a.mp4")).read_bytes(),
    "still": lambda: clips.picture(tmp_path / "a.png", 9),
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
  assert clips.numbers(cache.read_frames(clip, [1.0], SIZE)[0]) == [10]
  clips.write(clip, 30, first=100)
  os.utime(clip, (1, 1))
  assert clips.numbers(cache.read_frames(clip, [1.0], SIZE)[0]) == [110]


def test_damaged_cache_files_are_written_again(clip, cache, monkeypatch):
  direct = video.read_frames(clip, TIMES, SIZE)
  cache.read_frames(clip, TIMES, SIZE)
  pixels, times = files(cache)
  for path in (pixels, times):
    sound = path.read_bytes()
    inside = len(sound) * 3 // 4
    for damaged in (b"", sound[:60], sound[:inside],
                    sound[:inside] + bytes(b ^ 255 for b in sound[inside:])):
      path.write_bytes(damaged)
      same(cache.read_frames(clip, TIMES, SIZE), direct)
      assert path.read_bytes() == sound
  pixels.unlink()
  same(cache.read_frames(clip, TIMES, SIZE), direct)
  no_decoding(monkeypatch)
  same(cache.read_frames(clip, TIMES, SIZE), direct)


def test_broken_media_fail_as_without_a_cache(tmp_path, cache):
  times = np.arange(40) / 10
  for name, (make, says) in clips.BROKEN.items():
    path = make(tmp_path / name)
    with pytest.raises(video.MediaError, match=says) as direct:
      video.read_frames(path, times, SIZE)
    with pytest.raises(video.MediaError) as cached:
      cache.read_frames(path, times, SIZE)
    assert str(cached.value) == str(direct.value)
  sound_part = [0.0, 0.5]
  path = clips.corrupt(tmp_path / "corrupt.mp4")
  same(cache.read_frames(path, sound_part, SIZE), video.read_frames(path, sound_part, SIZE))
  assert not list(cache.folder.iterdir())


def test_a_video_over_the_limit_is_not_cached(clip, tmp_path):
  cache = FrameCache(tmp_path / "cache", SIZE, limit=10 * SIZE * SIZE * 3)
  same(cache.read_frames(clip, TIMES, SIZE), video.read_frames(clip, TIMES, SIZE))
  assert not list(cache.folder.iterdir())


def test_timelines_read_through_the_cache(clip, cache):
  timeline = (Scene(clip, t0=1.0, t1=2.0), Scene(clip, t0=3.0, t1=4.0, at=1.0))
  times = np.arange(20) / 10
  same(video.read_timeline(timeline, times, SIZE, read=cache.read_frames),
       video.read_timeline(timeline, times, SIZE))
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
  same(pickle.loads(pickle.dumps(cache)).read_frames(clip, TIMES, SIZE),
       video.read_frames(clip, TIMES, SIZE))
