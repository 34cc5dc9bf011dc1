# SPDX-License-Identifier: Apache-2.0
"""Videos that play: frames when they are due, and one sentence when a stream breaks off."""

import functools
import http.server
import threading
import time

import pytest

from data_pipelines.media import live_video
from data_pipelines.media.live_video import LiveVideo
from data_pipelines.media.open import MediaError
from filax.testing import clips


def played(source, **options):
  video = LiveVideo(source, 32, **options)
  return list(video.frames())


def test_frames_are_those_on_screen_at_each_due_time(tmp_path):
  path = clips.write_video(tmp_path / "a.mp4", 40, 10)
  frames = played(path, fps=2, speed=0)
  assert [second for second, _ in frames] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5])
  assert [clips.read_number(picture) for _, picture in frames] == list(range(0, 40, 5))
  assert frames[0][1].shape == (32, 32, 3)


def test_a_slow_video_shows_each_frame_once(tmp_path):
  path = clips.write_video(tmp_path / "a.mp4", 5, 1)
  assert [second for second, _ in played(path, fps=3, speed=0)] == [0, 1, 2, 3, 4]


def test_a_folder_of_pictures_plays(tmp_path):
  folder = clips.write_picture_folder(tmp_path / "frames", 6)
  frames = played(folder, fps=1, speed=0)
  assert [clips.read_number(picture) for _, picture in frames] == [0, 2, 4]


def test_a_file_plays_in_its_time(tmp_path):
  path = clips.write_video(tmp_path / "a.mp4", 20, 10)
  video = LiveVideo(path, 32, fps=5, speed=4)
  begin = time.monotonic()
  seconds = [second for second, _ in video.frames()]
  assert time.monotonic() - begin >= seconds[-1] / 4


def test_what_comes_before_damage_is_seen(tmp_path):
  path = clips.write_corrupt(tmp_path / "a.mp4")
  seen = []
  with pytest.raises(MediaError, match=r"damaged|Invalid data"):
    for second, _ in LiveVideo(path, 32, fps=10, speed=0).frames():
      seen.append(second)
  assert len(seen) >= 5


@pytest.mark.parametrize("name", sorted(set(clips.BROKEN_VIDEOS) - {"corrupt.mp4"}))
def test_a_source_that_cannot_be_opened_is_named(name, tmp_path):
  write, reason = clips.BROKEN_VIDEOS[name]
  path = write(tmp_path / name)
  with pytest.raises(MediaError, match=reason):
    played(path, speed=0)


class Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    """Nothing is printed."""


@pytest.fixture
def server(tmp_path):
  """Serves tmp_path; the address of its root."""
  handler = functools.partial(Quiet, directory=str(tmp_path))
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://user:secret@127.0.0.1:{http_server.server_port}"
    http_server.shutdown()


def test_a_stream_from_the_network_plays(server, tmp_path):
  clips.write_video(tmp_path / "a.mp4", 40, 10)
  video = LiveVideo(f"{server}/a.mp4", 32, fps=2, speed=0)
  assert not video.waits
  assert [clips.read_number(picture) for _, picture in video.frames()] == list(range(0, 40, 5))


def test_errors_tell_no_password(server):
  with pytest.raises(MediaError) as error:
    played(f"{server}/no.mp4?token=secret")
  assert "secret" not in str(error.value) and "127.0.0.1" in str(error.value)


def test_a_clock_that_is_set_ahead_makes_nobody_wait(server, tmp_path):
  clips.write_video(tmp_path / "a.ts", 5, gop=1, times=[0, 1, 2, 20_000, 20_001])
  clips.write_video(tmp_path / "a.mkv", 3, gop=1, times=[0, 1, 20_001])
  assert [second for second, _ in played(f"{server}/a.ts", speed=0)] == [0, 1, 2, 3]
  assert [second for second, _ in played(f"{server}/a.mkv", speed=0)] == [0, 1, 20_001]


def test_a_clock_that_leaps_back_never_makes_time_fall():
  clock = live_video._Clock(iter([0.0, 9.0]).__next__)
  assert [clock.second(t) for t in (100.0, 101.0, 5.0, 6.5)] == [0, 1, 1, 2.5]
  assert clock.second(None) == 9
