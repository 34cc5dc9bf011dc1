# SPDX-License-Identifier: Apache-2.0
"""Streams as cameras send them, by ffmpeg as a process, over loopback."""

import contextlib
import dataclasses
import shutil
import signal
import socket
import subprocess
import threading
import time

from free_ports import free_port
import numpy as np
import pytest

from data_pipelines.media import live_video
from data_pipelines.media.frames import read_frames
from data_pipelines.media.live_video import LiveVideo
from data_pipelines.media.open import LIMITS, MediaError

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg"),
]

PATIENT = dataclasses.replace(LIMITS, open_seconds=20.0)
SMALL = "testsrc=s=160x120:r=10"


@contextlib.contextmanager
def camera(address, seconds, kind="mpegts", codec="mpeg2video", pictures=SMALL):
  """ffmpeg, which sends so many seconds of pictures in real time."""
  words = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", pictures]
  words += ["-t", str(seconds), "-c:v", codec, "-g", "5", "-f", kind]
  process = subprocess.Popen([*words, *address], stdin=subprocess.DEVNULL)
  try:
    yield process
  finally:
    process.kill()
    process.wait()


@contextlib.contextmanager
def listener():
  """(address, a function that waits for ffmpeg's connection and passes its bytes on)."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    yield server, f"tcp://127.0.0.1:{server.getsockname()[1]}"


def pass_on(source, target):
  """Connects what a camera sends with whoever watches, until one of them leaves."""

  def run():
    sender, _ = source.accept()
    watcher, _ = target.accept()
    with sender, watcher, contextlib.suppress(OSError):
      while content := sender.recv(65_536):
        watcher.sendall(content)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  return thread


@contextlib.contextmanager
def tcp_stream(seconds):
  """(ffmpeg, the address where its stream is watched)."""
  with listener() as (source, sent_to), listener() as (target, watched_at):
    with camera([sent_to], seconds) as process:
      pass_on(source, target)
      yield process, watched_at


def test_a_stream_over_tcp_is_seen_to_its_end():
  with tcp_stream(2) as (_, address):
    seconds = [second for second, _ in LiveVideo(address, 28, fps=5, limits=PATIENT).frames()]
  assert len(seconds) >= 8 and seconds == sorted(seconds) and seconds[-1] < 2.5


def test_a_stream_over_udp_that_stops_is_one_sentence(monkeypatch):
  monkeypatch.setattr(live_video, "SILENCE", 2.0)
  address = f"udp://127.0.0.1:{free_port()}"
  seen = []
  with camera([address], 3), pytest.raises(MediaError) as caught:
    for second, _ in LiveVideo(address, 28, fps=5, limits=PATIENT).frames():
      seen.append(second)
  assert len(seen) >= 5
  assert str(caught.value) == f"{address}: sent nothing more for 2 seconds."


def test_a_stream_that_stalls_is_one_sentence(monkeypatch):
  monkeypatch.setattr(live_video, "SILENCE", 1.0)
  seen = []
  with tcp_stream(60) as (process, address), pytest.raises(MediaError, match="for 1 seconds"):
    for second, _ in LiveVideo(address, 28, fps=5, limits=PATIENT).frames():
      seen.append(second)
      if len(seen) == 5:
        process.send_signal(signal.SIGSTOP)
  assert len(seen) >= 5


def test_a_camera_that_is_cut_off_ends_the_video():
  seen = []
  with tcp_stream(60) as (process, address):
    for second, _ in LiveVideo(address, 28, fps=5, limits=PATIENT).frames():
      seen.append(second)
      if len(seen) == 5:
        process.kill()
  assert len(seen) >= 5


def test_a_stream_may_change_its_size(tmp_path):
  content = b""
  for size in ("160x120", "320x240"):
    path = tmp_path / f"{size}.ts"
    with camera([str(path)], 1, pictures=f"testsrc=s={size}:r=10") as process:
      process.wait(30)
    content += path.read_bytes()
  with listener() as (server, address):

    def send():
      with server.accept()[0] as watcher:
        watcher.sendall(content)

    threading.Thread(target=send, daemon=True).start()
    video = LiveVideo(address, 28, fps=5, speed=0, limits=PATIENT)
    frames = list(video.frames())
  assert len(frames) >= 8 and {picture.shape for _, picture in frames} == {(28, 28, 3)}


def test_an_address_that_never_answers_is_one_sentence():
  quick = dataclasses.replace(LIMITS, open_seconds=1.0)
  with listener() as (_, address), pytest.raises(MediaError) as caught:
    list(LiveVideo(address, 28, limits=quick).frames())
  assert str(caught.value) == f"{address}: no video came within 1 seconds."


def test_a_camera_that_is_not_there_is_one_sentence():
  with pytest.raises(MediaError, match=r"^/dev/video77: does not exist\.$"):
    list(LiveVideo("/dev/video77", 28).frames())
  with pytest.raises(MediaError, match=r"^/dev/null: [^.]*\.$"):
    list(LiveVideo("/dev/null", 28).frames())


def test_motion_jpeg_over_http_keeps_the_time_of_the_wall():
  """Its pictures have no times, and FFmpeg would count 25 a second."""
  port = free_port()
  address = f"http://127.0.0.1:{port}"
  seconds = []
  deadline = time.monotonic() + 60
  with camera(["-listen", "1", address], 3, kind="mpjpeg", codec="mjpeg"):
    while not seconds and time.monotonic() < deadline:  # Until ffmpeg listens.
      time.sleep(0.1)
      with contextlib.suppress(MediaError):
        for second, _ in LiveVideo(address, 28, fps=5, limits=PATIENT).frames():
          seconds.append(second)
  assert seconds[-1] > 1.6  # 30 pictures are 1.2 seconds at 25 a second.


def test_frames_beyond_a_bound_are_refused_however_a_video_begins(tmp_path):
  content = b""
  for size in ("64x64", "640x480"):
    path = tmp_path / f"{size}.ts"
    with camera([str(path)], 1, pictures=f"color=s={size}:r=5") as process:
      process.wait(30)
    content += path.read_bytes()
  grows = tmp_path / "grows.ts"
  grows.write_bytes(content)
  bounded = dataclasses.replace(LIMITS, video_pixels=10_000)
  with pytest.raises(MediaError, match="more than 10000 pixels"):
    read_frames(grows, np.linspace(0, 1.9, 8), 28, limits=bounded)
  assert len(read_frames(grows, np.linspace(0, 1.9, 8), 28)[0]) == 8
