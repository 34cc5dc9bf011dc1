# SPDX-License-Identifier: Apache-2.0
"""Media that are not files, or that name other files, never hang and never lead elsewhere."""

import multiprocessing
import os
import pathlib
import socket

import pytest

from data_pipelines.media import frames, pictures
from data_pipelines.media.open import MediaError
from data_pipelines.media.probe import probe
from data_pipelines.tools import check
from filax.testing import clips, manifests


def fifo(path: pathlib.Path):
  os.mkfifo(path)


def folder_of_fifos(path: pathlib.Path):
  path.mkdir()
  os.mkfifo(path / "1.jpg")


def folder_of_links(path: pathlib.Path):
  path.mkdir()
  os.mkfifo(path / "pipe")
  (path / "1.jpg").symlink_to("pipe")


def unix_socket(path: pathlib.Path):
  """Its path is short: they may have 108 bytes."""
  short = pathlib.Path(os.path.relpath(path))
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(short) if len(str(short)) < len(str(path)) else str(path))


OTHERS = {
  "pipe.jpg": fifo,
  "pipe.mp4": fifo,
  "folder": folder_of_fifos,
  "folder of links": folder_of_links,
  "socket.jpg": unix_socket,
  "device.jpg": lambda path: path.symlink_to("/dev/zero"),
  "device.mp4": lambda path: path.symlink_to("/dev/tty"),
  "kernel.jpg": lambda path: path.symlink_to("/proc/kmsg"),  # Regular, and reading it waits.
  "kernel.mp4": lambda path: path.symlink_to("/proc/kmsg"),
  "memory.jpg": lambda path: path.symlink_to("/proc/self/mem"),
  "loop.jpg": lambda path: path.symlink_to(path.name),
}


def answers(path: str, queue):
  """What is said of a medium; in a process of its own, which can be ended."""
  queue.put(probe(path).error)
  for read in (lambda: pictures.read_image(path), lambda: frames.read_frames(path, [0.0], 16)):
    try:
      read()
      queue.put("")
    except MediaError as error:
      queue.put(str(error))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_file_never_hangs(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  OTHERS[name](tmp_path / name)
  spawn = multiprocessing.get_context("spawn")
  queue = spawn.Queue()
  process = spawn.Process(target=answers, args=(str(tmp_path / name), queue))
  process.start()
  try:
    for _ in range(3):
      said = queue.get(timeout=120)
      assert said.startswith(str(tmp_path / name)) and said.endswith(".")
      assert "\n" not in said
  finally:
    process.kill()
    process.join()


def test_a_folder_with_a_pipe_is_a_bad_record(tmp_path):
  folder_of_fifos(tmp_path / "d")
  manifest = manifests.write_manifest(
    tmp_path / "m.json", [manifests.question_record("<image>\nq", video="d")]
  )
  (bad,) = check.check_manifests([manifest]).report.bad
  assert "1.jpg: is neither a file nor a folder" in bad.reason


LISTS = {
  "concat": "ffconcat version 1.0\nfile other.mp4\n",
  "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nother.mp4\n#EXT-X-ENDLIST\n",
  "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
  "a=rtpmap:96 H264/90000\n",
  "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
  '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9"><BaseURL>'
  "other.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
}


@pytest.mark.parametrize("other", ["a video", "a pipe"])
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("extension", ["mp4", "ffconcat", "m3u8", "sdp", "mpd"])
def test_a_list_of_files_is_not_followed(extension, kind, other, tmp_path):
  if other == "a video":
    clips.write_video(tmp_path / "other.mp4", 4)
  else:
    os.mkfifo(tmp_path / "other.mp4")
  path = tmp_path / f"list.{extension}"
  path.write_text(LISTS[kind])
  for media in (str(path), path.read_bytes()):
    says = "is a playlist" if kind == "hls" else "is not a picture or a video, but text"
    assert says in probe(media).error


def test_a_name_is_no_pattern(tmp_path):
  """FFmpeg would read a%d.tga as a1.tga, a2.tga …"""
  (tmp_path / "a%d.tga").write_bytes(bytes(100))
  os.mkfifo(tmp_path / "a1.tga")
  assert "begins with zeros" in probe(str(tmp_path / "a%d.tga")).error


def test_a_gif_larger_than_a_picture_may_be_is_no_video(tmp_path):
  """37 bytes that would make FFmpeg take a gigabyte."""
  path = tmp_path / "a.gif"
  screen = b"GIF89a\x80\x3e\x80\x3e\x80\0\0" + bytes(6)
  path.write_bytes(screen + b",\0\0\0\0\x80\x3e\x80\x3e\0\x02\x02\x44\x01\0;")
  assert "16000 x 16000" in probe(str(path)).error


def test_an_address_is_downloaded_first(tmp_path):
  assert "example.org/a.mp4: is an address; download" in probe("https://example.org/a.mp4").error
  assert probe(str(tmp_path / "a.mp4")).error.endswith("a.mp4: does not exist.")
