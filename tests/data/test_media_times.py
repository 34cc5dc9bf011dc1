# SPDX-License-Identifier: Apache-2.0
"""Frames by time where the clock, the index or the beginning of a file is unusual."""

import json
import os
import pathlib

import av
import ffmpeg_reference
import numpy as np
import odd_clips as odd
from PIL import Image
import pytest

from data_pipelines.media import decoder, probe
from data_pipelines.media import frames as video
from data_pipelines.media.container import open_video
from data_pipelines.media.decoder import VideoDecoder, square
from data_pipelines.media.open import Limits, identity
from data_pipelines.sample import Scene
from filax.testing import clips

B = {"bf": "2", "g": "10"}
REORDERED = {"bf": "3", "g": "10", "x264-params": "b-pyramid=2:b-adapt=0"}
PYRAMID = {"bf": "3", "g": "12", "x264-params": "b-pyramid=2:open-gop=1"}
HEVC = {"x265-params": "keyint=10:bframes=3:log-level=none"}
UNEVEN = [0, 0.1, 0.2, 5, 5.1, 5.3, 9, 9.1, 9.2, 9.25, 9.3, 9.35, 30, 30.1, 60, 60.1]
WRAP = 2**33 / 90000 - 1.4  # The muxer adds 1.4 s to the clock of MPEG-TS.


def animated_png(folder):
  """Only the part of a frame that changed is stored, so frames need those before them."""
  frames = [Image.fromarray(clips.draw_number(number, odd.SIDE, odd.SIDE)) for number in range(20)]
  path = folder / "x.png"
  frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
  return path


def beheaded(folder, codec, extension, lost, **options):
  whole = odd.encode(folder / f"whole.{extension}", codec, options=options)
  return odd.beheaded(whole, folder / f"beheaded.{extension}", lost)


def joined(folder, extension, first_start=0.0, second_start=0.0, codec="libx264"):
  parts = [
    odd.encode(folder / f"a.{extension}", codec, options=B, start=first_start),
    odd.encode(folder / f"b.{extension}", codec, options=B, start=second_start, first=40),
  ]
  return odd.joined(folder / f"joined.{extension}", *parts)


def flat(folder, extension):
  return odd.by_decoding_order(
    odd.encode(folder / "plain.mp4", options=B), folder / f"flat.{extension}"
  )


def edited(folder, extension, seconds, options=B):
  plain = odd.encode(folder / "plain.mp4", options=options)
  return odd.shifted(plain, folder / f"edited.{extension}", -seconds)


def dropped(folder):
  whole = odd.encode(folder / "whole.avi", "mjpeg", pixels="yuvj420p")
  return odd.remux(whole, folder / "drop.avi", lambda packet, number: number not in (5, 6, 7, 20))


EVEN = np.arange(40) / 10
# name -> (how it is made in a folder, the numbers of its frames, their seconds).
CASES = {
  "avi, H.264": (lambda f: odd.encode(f / "x.avi", options=B), range(40), EVEN),
  "avi, H.264 pyramid": (lambda f: odd.encode(f / "x.avi", options=PYRAMID), range(40), EVEN),
  "avi, MPEG-4": (lambda f: odd.encode(f / "x.avi", "mpeg4", options=B), range(40), EVEN),
  "avi, MPEG-2": (lambda f: odd.encode(f / "x.avi", "mpeg2video", options=B), range(40), EVEN),
  "avi, frames dropped": (
    dropped,
    np.delete(np.arange(40), [5, 6, 7, 20]),
    np.delete(EVEN, [5, 6, 7, 20]),
  ),
  "raw H.264": (lambda f: odd.encode(f / "x.h264", form="h264", options=B), range(40), EVEN),
  "raw HEVC": (
    lambda f: odd.encode(f / "x.hevc", "libx265", form="hevc", options=HEVC),
    range(40),
    EVEN,
  ),
  "raw MPEG-2": (
    lambda f: odd.encode(f / "x.m2v", "mpeg2video", form="mpeg2video", options=B),
    range(40),
    EVEN,
  ),
  "raw MPEG-4": (lambda f: odd.encode(f / "x.m4v", "mpeg4", form="m4v"), range(40), EVEN),
  "mjpeg": (
    lambda f: odd.encode(f / "x.mjpeg", "mjpeg", form="mjpeg", pixels="yuvj420p"),
    range(40),
    np.arange(40) / 25,
  ),
  "VFW in mkv": (lambda f: odd.vfw(f / "x.mkv"), range(40), EVEN),
  "mp4 without display times": (lambda f: flat(f, "mp4"), range(40), EVEN),
  "flv without display times": (lambda f: flat(f, "flv"), range(40), EVEN),
  "late mkv": (lambda f: odd.encode(f / "x.mkv", options=B, start=33.0), range(40), EVEN),
  "late webm": (lambda f: odd.encode(f / "x.webm", "libvpx-vp9", start=20.0), range(40), EVEN),
  "late nut": (lambda f: odd.encode(f / "x.nut", options=B, start=600.0), range(40), EVEN),
  "late ts": (lambda f: odd.encode(f / "x.ts", options=B, start=700.0), range(40), EVEN),
  "late mp4": (lambda f: odd.encode(f / "x.mp4", options=B, start=5.0), range(40), EVEN),
  "ts that wraps": (lambda f: odd.encode(f / "x.ts", options=B, start=WRAP - 2), range(40), EVEN),
  "ts that wraps late": (
    lambda f: odd.encode(f / "x.ts", options=B, start=WRAP - 62, times=EVEN * 25),
    range(40),
    EVEN * 25,
  ),
  "joined ts": (lambda f: joined(f, "ts"), range(80), np.arange(80) / 10),
  "joined ts, back": (lambda f: joined(f, "ts", 500), range(80), np.arange(80) / 10),
  "joined ts, a little back": (lambda f: joined(f, "ts", 3), range(80), np.arange(80) / 10),
  "joined ts, forth": (lambda f: joined(f, "ts", 0, 900), range(80), np.arange(80) / 10),
  "joined mkv": (lambda f: joined(f, "mkv"), range(80), np.arange(80) / 10),
  "mp4 with an edit": (lambda f: edited(f, "mp4", 0.4), range(4, 40), EVEN[:36]),
  "mov with an edit": (lambda f: edited(f, "mov", 1.55), range(16, 40), EVEN[:24]),
  "mp4 with an edit, pyramid": (
    lambda f: edited(f, "mp4", 0.4, REORDERED),
    range(4, 40),
    EVEN[:36],
  ),
  "raw palette": (lambda f: odd.palettes(f / "x.avi", "rawvideo"), range(40), EVEN),
  "raw palettes": (lambda f: odd.palettes(f / "x.avi", "rawvideo", True), range(40), EVEN),
  "msrle palettes": (lambda f: odd.palettes(f / "x.avi", "msrle", True), range(40), EVEN),
  "smc palette": (lambda f: odd.palettes(f / "x.mov", "smc"), range(40), EVEN),
  "cinepak": (lambda f: odd.encode(f / "x.avi", "cinepak", pixels="rgb24"), range(40), EVEN),
  "VP8 between keys": (
    lambda f: beheaded(f, "libvpx", "webm", 6, g="12"),
    range(12, 40),
    EVEN[:28],
  ),
  "VP9 between keys": (
    lambda f: beheaded(f, "libvpx-vp9", "webm", 6, g="12"),
    range(12, 40),
    EVEN[:28],
  ),
  "AV1 between keys": (
    lambda f: beheaded(f, "libsvtav1", "mkv", 6, g="12"),
    range(12, 40),
    EVEN[:28],
  ),
  "H.264 between keys, mkv": (
    lambda f: beheaded(f, "libx264", "mkv", 4, **B),
    range(10, 40),
    EVEN[:30],
  ),
  "H.264 between keys, ts": (
    lambda f: beheaded(f, "libx264", "ts", 4, **B),
    range(10, 40),
    EVEN[:30],
  ),
  "H.264 between keys, mp4": (
    lambda f: beheaded(f, "libx264", "mp4", 4, **B),
    range(10, 40),
    EVEN[:30],
  ),
  "H.264 between keys, avi": (
    lambda f: beheaded(f, "libx264", "avi", 4, **B),
    range(10, 40),
    EVEN[:30],
  ),
  "HEVC between keys": (
    lambda f: beheaded(f, "libx265", "mkv", 4, **HEVC),
    range(10, 40),
    EVEN[:30],
  ),
  "VP8 with hidden frames": (
    lambda f: odd.encode(
      f / "x.webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}
    ),
    range(40),
    EVEN,
  ),
  "uneven mp4": (lambda f: odd.encode(f / "x.mp4", options=B, times=UNEVEN), range(16), UNEVEN),
  "uneven mp4 in order": (
    lambda f: odd.encode(f / "x.mp4", options={"bf": "0"}, times=UNEVEN),
    range(16),
    UNEVEN,
  ),
  "uneven mkv": (lambda f: odd.encode(f / "x.mkv", options=B, times=UNEVEN), range(16), UNEVEN),
  "uneven gif": (
    lambda f: odd.encode(f / "x.gif", "gif", pixels="rgb8", times=[0, 3, 4, 4.5, 9, 9.1]),
    range(6),
    [0, 3, 4, 4.5, 9, 9.1],
  ),
  "animated png": (animated_png, range(20), [number / 10 for number in range(20)]),
  "swf": (lambda f: odd.encode(f / "x.swf", "flv"), range(40), EVEN),
}
# Where the ffmpeg command of the day is worse: it shows two frames at one time at a seam, guesses
# display times only once they are wrong, shows grey ghosts, or stops.
BEYOND_FFMPEG = (
  "joined ts, back",
  "joined ts, a little back",
  "joined mkv",
  "mp4 without display times",
  "flv without display times",
  "HEVC between keys",
)
SHOWN_BY_FFMPEG = [name for name in CASES if name not in BEYOND_FFMPEG]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
  make, numbers, seconds = CASES[request.param]
  path = make(tmp_path_factory.mktemp("odd"))
  return request.param, path, np.asarray(numbers), np.asarray(seconds, np.float64)


def test_every_frame_is_shown_at_its_time(case):
  _, path, numbers, seconds = case
  frames, ours = clips.read_all(path, odd.SIDE)
  assert clips.read_numbers(frames) == numbers.tolist()
  np.testing.assert_allclose(ours, seconds, atol=1.1e-3)
  rng = np.random.default_rng(0)
  for _ in range(6):
    times = np.sort(rng.uniform(0, seconds[-1] + 0.2, rng.integers(1, 6)))
    at = np.searchsorted(ours, times + video.TOLERANCE, side="right") - 1
    sampled, seen = video.read_frames(path, times, odd.SIDE)
    np.testing.assert_array_equal(sampled, frames[at])
    np.testing.assert_allclose(seen, ours[at], atol=1e-6)


def test_the_probe_knows_what_is_shown(case):
  _, path, numbers, seconds = case
  facts = video.probe(path)
  assert facts.error == ""
  assert facts.frames == len(numbers)
  assert facts.last_time == pytest.approx(seconds[-1], abs=1.1e-3)
  assert facts.duration > facts.last_time
  assert facts.fps == pytest.approx(facts.frames / facts.duration, rel=0.02)
  at = np.searchsorted(seconds, facts.times(np.arange(facts.frames)) + 1e-3, side="right") - 1
  np.testing.assert_array_equal(at, np.arange(facts.frames))
  if np.allclose(seconds, np.arange(len(seconds)) / 10):
    assert (facts.duration, facts.fps) == pytest.approx((len(seconds) / 10, 10), abs=2e-3)


@pytest.mark.parametrize("case", SHOWN_BY_FFMPEG, indirect=True)
def test_ffmpeg_shows_the_same(case):
  _, path, _, _ = case
  expected, seconds = ffmpeg_reference.shown(path, odd.SIDE)
  frames, ours = clips.read_all(path, odd.SIDE)
  assert len(frames) == len(expected)
  np.testing.assert_allclose(ours, seconds, atol=2e-3)
  assert np.abs(frames.astype(int) - expected).mean() < 3


def test_a_long_stretch_is_skipped_in_avi_with_frames_out_of_order(tmp_path):
  path = odd.encode(tmp_path / "x.avi", options=B)
  frames, _ = video.read_frames(path, [3.5], odd.SIDE, limits=Limits(packets=30))
  assert clips.read_numbers(frames) == [35]


@pytest.mark.parametrize(
  ("extension", "codec", "options"),
  [
    ("mkv", "libx264", PYRAMID),
    ("mkv", "libx265", HEVC),
    ("mkv", "libsvtav1", {"g": "10"}),
    ("webm", "libvpx-vp9", {"g": "10", "lag-in-frames": "16", "auto-alt-ref": "1"}),
  ],
)
def test_a_long_stretch_of_matroska_is_skipped(extension, codec, options, tmp_path):
  path = odd.encode(tmp_path / f"x.{extension}", codec, 200, options=options, start=3.0)
  expected, seconds = clips.read_all(path, odd.SIDE)
  times = [0.35, 7.05, 15.55]
  frames, ours = video.read_frames(path, times, odd.SIDE, limits=Limits(packets=80))
  np.testing.assert_array_equal(frames, expected[[3, 70, 155]])
  np.testing.assert_allclose(ours, seconds[[3, 70, 155]])
  picture = video.read_picture(Scene(path, "image", 15.55, 15.6), limits=Limits(packets=40))
  np.testing.assert_array_equal(picture, expected[155])


def test_matroska_is_skipped_to_what_is_shown_there(case, monkeypatch):
  _, path, numbers, seconds = case
  if not str(path).endswith((".mkv", ".webm")):
    return
  monkeypatch.setattr(decoder, "_JUMP", -1.0)
  for second in np.random.default_rng(0).uniform(0, seconds[-1] + 0.2, 8):
    frames, _ = video.read_frames(path, [second], odd.SIDE)
    at = np.searchsorted(seconds, second + 1.1e-3, side="right") - 1
    assert clips.read_numbers(frames) == [numbers[at]]


# (a, b, c, d) of a display matrix -> (quarter turns counter-clockwise, mirrored before).
ORIENTATIONS = {
  (1, 0, 0, 1): (0, False),
  (0, -1, 1, 0): (1, False),
  (-1, 0, 0, -1): (2, False),
  (0, 1, -1, 0): (3, False),
  (-1, 0, 0, 1): (0, True),
  (0, 1, 1, 0): (1, True),
  (1, 0, 0, -1): (2, True),
  (0, -1, -1, 0): (3, True),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_frames_are_turned_and_mirrored(matrix, tmp_path):
  turns, mirrored = ORIENTATIONS[matrix]
  plain = odd.encode(tmp_path / "plain.mp4", count=5)  # Encoded once: x264 may differ in a bit.
  upright = clips.read_all(plain, odd.SIDE)[0]
  path = odd.turned(plain, tmp_path / "turned.mp4", matrix)
  frames, _ = clips.read_all(path, odd.SIDE)
  expected = upright[:, :, ::-1] if mirrored else upright
  np.testing.assert_array_equal(frames, np.rot90(expected, turns, axes=(1, 2)))
  facts = video.probe(path)
  assert (facts.rotation, facts.mirrored) == (90 * turns, mirrored)
  reference, _ = ffmpeg_reference.shown(path, odd.SIDE)
  assert np.abs(frames.astype(int) - reference).mean() < 3


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_is_shown(default, tmp_path):
  path = odd.two_streams(tmp_path / "two.mkv", default)
  frames, _ = video.read_frames(path, [0.0, 1.5], odd.SIDE)
  assert clips.read_numbers(frames) == [100 * default, 100 * default + 15]
  assert video.probe(path).width == odd.SIDE * (1 + default)


def test_a_file_that_cannot_be_wound_is_read_through(tmp_path, monkeypatch):
  path = odd.encode(tmp_path / "x.mp4", options=B)
  expected, _ = video.read_frames(path, [2.5, 3.5], odd.SIDE)
  with open_video(path) as opened:
    decoder = VideoDecoder(opened, lambda frame: square(frame, odd.SIDE, "squash"))

    def refuse(ticks):
      raise av.error.PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(decoder.reader, "seek", refuse)
    ours = [decoder.frame_at(second)[1]() for second in (2.5, 3.5)]
  np.testing.assert_array_equal(ours, expected)


def test_real_files_agree_with_their_lists():
  data = os.environ.get("FILAX_TEST_DATA")
  if not data:
    print("skipped: FILAX_TEST_DATA is not set")
    pytest.skip("FILAX_TEST_DATA is not set")
  path = pathlib.Path(data, "videos/torchcodec/nasa_13013.mp4")
  listed = json.loads(path.with_name(path.name + ".stream3.all_frames_info.json").read_text())
  seconds = np.array([float(frame["pts_time"]) for frame in listed])
  _, ours = clips.read_all(str(path), 32)
  np.testing.assert_allclose(ours, seconds - seconds[0], atol=1e-5)
  facts = video.probe(str(path))
  assert (facts.frames, facts.width, facts.height) == (390, 480, 270)
  assert facts.last_time == pytest.approx(seconds[-1] - seconds[0], abs=1e-5)


def test_a_rate_beside_a_file_without_an_extension_changes_nothing(tmp_path):
  """As a record's fps adds it, since only the disk tells such a file from a folder."""
  path = tmp_path / "clip"
  os.rename(clips.write_video(tmp_path / "a.mp4", 4, 1), path)
  rated = f"{path}@3fps"
  assert probe.probe(rated) == probe.probe(path)
  shown, _ = video.read_frames(rated, [1.0, 2.0], odd.SIDE)
  expected, _ = video.read_frames(path, [1.0, 2.0], odd.SIDE)
  np.testing.assert_array_equal(shown, expected)
  before = identity(rated)
  path.write_bytes(b"other content")
  assert identity(rated) != before
