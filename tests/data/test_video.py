# SPDX-License-Identifier: Apache-2.0
"""Decoding: which frame is shown at a time, exactly, and what is said about broken files."""

import os
import pathlib
import threading

import av
import numpy as np
import odd_clips as odd
from PIL import Image
import pytest

from data_pipelines.media import frames as video
from data_pipelines.media import open as media
from data_pipelines.media.cache import FrameCache
from data_pipelines.media.probe import timeline_duration
from data_pipelines.sample import Scene
from filax.testing import clips

SIZE = 32


def shown(path, times, **more):
  frames, seen = video.read_frames(path, times, SIZE, **more)
  assert frames.dtype == np.uint8 and frames.shape == (len(times), SIZE, SIZE, 3)
  assert seen.dtype == np.float64
  return clips.read_numbers(frames), seen


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("media") / "clip.mp4", frames=60, gop=12)


def test_every_frame_by_its_own_time(clip):
  numbers, seen = shown(clip, np.arange(60) / 10)
  assert numbers == list(range(60))
  np.testing.assert_allclose(seen, np.arange(60) / 10, atol=1e-6)


def test_a_frame_stays_on_screen_until_the_next(clip):
  assert shown(clip, [0.0, 0.05, 0.0999, 0.1, 0.199, 5.85, 5.9])[0] == [0, 0, 1, 1, 1, 58, 59]


def test_times_in_any_order_and_outside_the_video(clip):
  numbers, seen = shown(clip, [5.9, -3.0, 0.3, 100.0, 0.3, 2.4])
  assert numbers == [59, 0, 3, 59, 3, 24]
  np.testing.assert_allclose(seen, [5.9, 0, 0.3, 5.9, 0.3, 2.4], atol=1e-6)


def test_times_of_a_whole_day_are_exact(tmp_path):
  """float32 has steps of 0.008 s there, and a frame takes 0.017 s."""
  times = [0.0, 86_399.967, 86_399.983]
  path = clips.write_video(tmp_path / "day.mp4", 3, times=times)
  numbers, seen = shown(path, [86_399.97, 86_399.99])
  assert numbers == [1, 2]
  np.testing.assert_allclose(seen, times[1:], atol=1e-9)
  _, cached = FrameCache(tmp_path / "cache", SIZE).read_frames(path, times, SIZE)
  np.testing.assert_allclose(cached, times, atol=1e-9)
  part = (Scene(path, t0=86_399.0, t1=86_400.0),)
  _, within = video.read_timeline(part, [0.99], SIZE)
  np.testing.assert_allclose(within, [0.983], atol=1e-9)


def test_no_times_give_no_frames(clip):
  assert video.read_frames(clip, [], SIZE)[0].shape == (0, SIZE, SIZE, 3)


def test_times_must_be_finite(clip):
  with pytest.raises(ValueError, match="finite"):
    video.read_frames(clip, [0.0, np.nan], SIZE)


def test_resize_must_be_known(clip):
  with pytest.raises(ValueError, match='"pillow" or "pad"'):
    video.read_frames(clip, [0.0], SIZE, resize="crop")


ENCODINGS = {
  "mp4": ("mp4", "libx264", {}),
  "open groups, pyramid": ("mp4", "libx264", {"x264-params": "open-gop=1:bframes=5:b-pyramid=2"}),
  "no reordering": ("mp4", "libx264", {"bf": "0"}),
  "one group a frame": ("mp4", "libx264", {"g": "1"}),
  "intra refresh": ("mp4", "libx264", {"x264-params": "intra-refresh=1"}),
  "fragments": ("frag.mp4", "libx264", {}),
  "mkv": ("mkv", "libx264", {}),
  "ts": ("ts", "libx264", {}),
  "avi": ("avi", "mpeg4", {}),
  "webm": ("webm", "libvpx-vp9", {}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_jump_shows_what_reading_through_shows(encoding, tmp_path):
  extension, codec, options = ENCODINGS[encoding]
  path = clips.write_video(tmp_path / f"clip.{extension}", 90, gop=8, codec=codec, options=options)
  if encoding == "fragments":
    path = fragmented(path, tmp_path / "fragments.mp4")
  frames, seconds = clips.read_all(path, SIZE)
  assert clips.read_numbers(frames) == list(range(90))
  rng = np.random.default_rng(0)
  for _ in range(4):
    times = np.sort(rng.uniform(0, 9, rng.integers(1, 12)))
    ours, seen = video.read_frames(path, times, SIZE)
    at = np.searchsorted(seconds, times + video.TOLERANCE, side="right") - 1
    np.testing.assert_array_equal(ours, frames[at])
    np.testing.assert_allclose(seen, seconds[at], atol=1e-6)
  found = video.probe(path)
  assert (found.frames, found.error) == (90, "")
  assert found.duration == pytest.approx(9.0, abs=0.11)


def test_a_jump_reads_one_group_of_pictures(clip):
  numbers, _ = shown(clip, [0.0, 5.0], limits=video.Limits(packets=25))  # Of 60.
  assert numbers == [0, 50]


def fragmented(path, out):
  """The same packets in a file whose index is spread over it."""
  import av

  with (
    av.open(path) as old,
    av.open(str(out), "w", options={"movflags": "frag_keyframe+empty_moov"}) as new,
  ):
    stream = new.add_stream_from_template(old.streams.video[0])
    for packet in old.demux(old.streams.video[0]):
      if packet.dts is not None:
        packet.stream = stream
        new.mux(packet)
  return str(out)


def test_variable_frame_rate_goes_by_the_clock(tmp_path):
  times = np.r_[np.arange(30) / 30, 1 + np.arange(30) / 3]  # 30 a second, then 3.
  path = clips.write_video(tmp_path / "vfr.mp4", 60, 30, times=times, gop=7)
  wanted = np.linspace(0, 10.6, 50)
  expected = np.searchsorted(np.round(times, 3), wanted + video.TOLERANCE, side="right") - 1
  numbers, seen = shown(path, wanted)
  assert numbers == expected.tolist()
  assert (seen <= wanted + video.TOLERANCE).all()
  assert video.probe(path).frames == 60


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_honoured(rotation, tmp_path):
  path = clips.write_video(tmp_path / "turned.mp4", 5, rotation=rotation)
  assert shown(path, [0.0, 0.3])[0] == [0, 3]
  found = video.probe(path)
  assert (found.width, found.height, found.rotation) == (64, 48, rotation)


def test_padding_keeps_the_aspect_ratio(tmp_path):
  path = clips.write_video(tmp_path / "wide.mp4", 3, width=64, height=32)
  frame = video.read_frames(path, [0.2], SIZE, resize="pad")[0][0]
  assert (frame[:8] == media.GREY).all() and (frame[-8:] == media.GREY).all()
  assert clips.read_number(frame[8:24]) == 2
  turned = clips.write_video(tmp_path / "tall.mp4", 3, width=32, height=64, rotation=90)
  frame = video.read_frames(turned, [0.2], SIZE, resize="pad")[0][0]
  assert (frame[:, :8] == media.GREY).all() and clips.read_number(frame[:, 8:24]) == 2


def test_one_frame(tmp_path):
  path = clips.write_video(tmp_path / "one.mp4", 1)
  assert shown(path, [0.0, 0.5, 9.0])[0] == [0, 0, 0]
  found = video.probe(path)
  assert (found.frames, found.last_time) == (1, 0.0)
  assert found.duration == pytest.approx(0.1)


def test_pictures_are_close_to_pillow(tmp_path):
  path = clips.write_video(tmp_path / "large.mp4", 1, width=320, height=240)
  large = video.read_frames(path, [0], 240, resize="pad")[0][0][30:210]  # 240 x 180 of 320 x 240.
  whole = clips.draw_number(0, 320, 240)
  reference = np.asarray(Image.fromarray(whole).resize((240, 180), Image.Resampling.BICUBIC))
  assert np.abs(large.astype(int) - reference).mean() < 4  # Coding loss included.


def test_the_fields_of_interlaced_frames_are_resized_together(tmp_path):
  path = odd.interlaced(tmp_path / "interlaced.mpg", 128)
  whole, _ = clips.read_all(path, 128)
  ours, _ = clips.read_all(path, SIZE)
  for number in range(5):
    resized = Image.fromarray(whole[number]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert np.abs(ours[number].astype(int) - np.asarray(resized)).mean() < 1
  np.testing.assert_allclose(np.diff(ours.astype(int), axis=1)[:, 8:-8], 0, atol=30)


def test_pictures_of_pillow_are_the_released_ones_to_the_bit(tmp_path):
  path = clips.write_video(tmp_path / "large.mp4", 4, width=320, height=240)
  with av.open(path) as file:
    whole = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
  wanted = [
    np.asarray(Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC))
    for frame in whole
  ]
  frames, _ = video.read_frames(path, [0.0, 0.1, 0.2, 0.3], 224, resize="pillow")
  np.testing.assert_array_equal(frames, np.stack(wanted))
  cache = FrameCache(tmp_path / "cache", 224)
  for resize in ("squash", "pillow"):  # Kept apart.
    np.testing.assert_array_equal(
      cache.read_frames(path, [0.1, 0.3], 224, resize=resize)[0],
      video.read_frames(path, [0.1, 0.3], 224, resize=resize)[0],
    )


def test_bytes_are_the_file(clip):
  data = pathlib.Path(clip).read_bytes()
  ours, _ = video.read_frames(data, [0.0, 3.3, 5.9], SIZE)
  np.testing.assert_array_equal(ours, video.read_frames(clip, [0.0, 3.3, 5.9], SIZE)[0])
  assert video.probe(data) == video.probe(clip)


def test_probe(clip):
  found = video.probe(clip)
  assert (found.frames, found.width, found.height, found.rotation) == (60, 64, 48, 0)
  assert found.duration == pytest.approx(6.0) and found.fps == pytest.approx(10.0)
  assert found.last_time == pytest.approx(5.9)


def test_folder_of_pictures(tmp_path):
  path = clips.write_picture_folder(tmp_path / "frames", 12)
  assert shown(path, [0.0, 0.4, 0.5, 5.0, 5.5, 9.0])[0] == [0, 0, 1, 10, 11, 11]
  assert shown(path, [1.0, 2.0], fps=4)[0] == [4, 8]
  found = video.probe(path)
  assert (found.frames, found.duration, found.fps) == (12, 6.0, 2.0)
  faster = tmp_path / "frames@4fps"
  os.rename(path, faster)
  assert shown(str(faster), [1.0, 2.0])[0] == [4, 8]
  assert video.probe(str(faster)).duration == 3.0


def test_the_reader_of_a_folder_may_name_its_rate(tmp_path):
  path = clips.write_picture_folder(tmp_path / "castle_clip_14", 12)
  episode = f"{path}@3fps"
  assert shown(episode, [0.0, 0.4, 1.0, 2.0])[0] == [0, 1, 3, 6]
  found = video.probe(episode)
  assert (found.frames, found.duration, found.fps, found.error) == (12, 4.0, 3.0, "")
  part = (Scene(episode, t0=1.0, t1=2.0),)
  frames, seconds = video.read_timeline(part, [0.0, 0.5, 0.9, 5.0], SIZE)
  assert clips.read_numbers(frames) == [3, 4, 5, 5] and seconds.max() < 1.0


def test_the_rate_of_a_folder_is_part_of_its_identity(tmp_path):
  path = clips.write_picture_folder(tmp_path / "episode", 3)
  names = {media.identity(medium) for medium in (path, f"{path}@3fps", f"{path}@4fps")}
  assert len(names) == 3


def test_a_rate_of_nothing_is_a_missing_medium(tmp_path):
  assert "does not exist" in video.probe(str(tmp_path / "nothing@3fps")).error


def test_folder_without_pictures(tmp_path):
  with pytest.raises(video.MediaError, match="no pictures"):
    video.read_frames(tmp_path, [0.0], SIZE)
  assert "no pictures" in video.probe(str(tmp_path)).error


def test_still_pictures(tmp_path):
  path = clips.write_picture(tmp_path / "still.png", 77)
  assert video.read_image(path).shape == (48, 64, 3)
  assert clips.read_number(video.read_image(path, SIZE)) == 77
  assert shown(path, [0.0, 3.0])[0] == [77, 77]
  assert video.probe(path) == video.Probe(frames=1, width=64, height=48)
  named_wrongly = tmp_path / "still.mp4"
  os.rename(path, named_wrongly)
  assert clips.read_number(video.read_image(named_wrongly, SIZE)) == 77


def test_picture_orientation_is_honoured(tmp_path):
  stored = Image.fromarray(np.rot90(clips.draw_number(5), 1))
  exif = Image.Exif()
  exif[0x0112] = 6  # Turn clockwise.
  stored.save(tmp_path / "turned.png", exif=exif)
  assert clips.read_number(video.read_image(tmp_path / "turned.png")) == 5


@pytest.mark.parametrize("name", clips.BROKEN_VIDEOS)
def test_broken_files_say_what_is_wrong(name, tmp_path):
  make, says = clips.BROKEN_VIDEOS[name]
  path = make(tmp_path / name)
  with pytest.raises(video.MediaError, match=says) as caught:
    video.read_frames(path, np.arange(40) / 10, SIZE)
  assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
  if name != "corrupt.mp4":
    assert video.probe(path) == video.Probe(error=str(caught.value))


def test_the_sound_parts_of_a_corrupt_file_can_be_read(tmp_path):
  path = clips.write_corrupt(tmp_path / "corrupt.mp4")
  assert shown(path, [0.0, 0.5])[0] == [0, 5]
  assert shown(path, [3.5, 3.9])[0] == [35, 39]


def test_random_damage_is_found(tmp_path):
  """Nearly always: some random bits are a sound stream of slightly other pictures."""
  path = clips.write_video(tmp_path / "clip.mp4", 30)
  data = pathlib.Path(path).read_bytes()
  begin, rng, raised = data.find(b"mdat") + 4, np.random.default_rng(0), 0
  for _ in range(30):
    place = rng.integers(begin + 700, len(data) - 20)  # Behind the encoder's own remarks.
    damaged = data[:place] + rng.bytes(16) + data[place + 16 :]
    try:
      frames, _ = clips.read_all(damaged, SIZE)
    except video.MediaError:
      raised += 1
    else:
      assert clips.read_numbers(frames) == list(range(30))
  assert raised >= 25


def test_truncated_matroska(tmp_path):
  path = pathlib.Path(clips.write_video(tmp_path / "clip.mkv", 100))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  assert "is truncated" in video.probe(str(path)).error


def test_a_picture_is_no_video_and_a_video_no_picture(clip):
  with pytest.raises(video.MediaError, match="is not a picture"):
    video.read_image(clip)


def test_damaged_pictures(tmp_path):
  path = pathlib.Path(clips.write_picture(tmp_path / "still.jpg"))
  whole = path.read_bytes()
  for data in (whole[: len(whole) // 2], whole[:20], whole[:10] + bytes(500)):
    path.write_bytes(data)
    with pytest.raises(video.MediaError):
      video.read_image(path)
    assert video.probe(str(path)).error


def test_a_video_of_an_unknown_codec(clip):
  data = pathlib.Path(clip).read_bytes().replace(b"avc1", b"zzz1")
  assert "unknown codec" in video.probe(data).error


def test_budgets(clip):
  with pytest.raises(video.MediaError, match=r"config\.data\.decode_seconds"):
    video.read_frames(clip, [5.9], SIZE, limits=video.Limits(decode_seconds=0))
  with pytest.raises(video.MediaError, match="more than 10 packets"):
    clips.read_all(clip, SIZE, limits=video.Limits(packets=10))
  assert "packets" in video.probe(clip, video.Limits(packets=0)).error


def test_the_packets_of_a_day_are_within_the_bound():
  frames_and_sounds = 60 + 2 * 50  # A second; two tracks of sound.
  assert video.Limits().packets > 24 * 3600 * frames_and_sounds


def test_a_pipe_does_not_hang(tmp_path):
  os.mkfifo(tmp_path / "pipe.mp4")
  assert "neither a file nor a folder" in video.probe(str(tmp_path / "pipe.mp4")).error


def test_names_never_reach_other_protocols():
  for name in ("http://localhost/a.mp4", "concat:a.mp4|b.mp4", "bad\0name.mp4"):
    assert video.probe(name).error


def test_threads_share_nothing(clip):
  expected, results = video.read_frames(clip, np.arange(60) / 10, SIZE)[0], []

  def work():
    return results.append(video.read_frames(clip, np.arange(60) / 10, SIZE)[0])

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(results) == 4 and all((frames == expected).all() for frames in results)


def on_timeline(timeline, times):
  frames, seen = video.read_timeline(timeline, times, SIZE)
  return clips.read_numbers(frames), seen.tolist()


def test_timeline_of_one_file_is_the_file(clip):
  times = [0.0, 2.04, 5.9, 8.0]
  numbers, seen = on_timeline((Scene(clip),), times)
  assert (numbers, seen) == (shown(clip, times)[0], shown(clip, times)[1].tolist())


def test_timeline_of_a_clip(clip):
  numbers, seen = on_timeline((Scene(clip, t0=1.0, t1=2.0),), [0.0, 0.5, 0.99, 1.0, 7.0])
  assert numbers == [10, 15, 19, 19, 19]  # Frame 20 begins where the clip ends.
  np.testing.assert_allclose(seen, [0.0, 0.5, 0.9, 0.9, 0.9], atol=1e-6)


def test_timeline_joins_scenes_of_several_files(clip, tmp_path):
  other = clips.write_video(tmp_path / "other.mp4", 20, first=100)
  timeline = (
    Scene(clip, t0=1.0, t1=2.0),
    Scene(other, at=1.0),
    Scene(clip, t0=4.0, t1=5.0, at=3.0),
  )
  numbers, seen = on_timeline(timeline, [3.5, 0.0, 0.95, 1.0, 2.95, 3.0, 3.99, 9.0])
  assert numbers == [45, 10, 19, 100, 119, 40, 49, 49]
  np.testing.assert_allclose(seen, [3.5, 0, 0.9, 1, 2.9, 3, 3.9, 3.9], atol=1e-6)
  probes = {path: video.probe(path) for path in (clip, other)}
  assert timeline_duration(timeline, probes) == pytest.approx(4.0)


def test_timeline_shows_a_still_inside_a_video(clip, tmp_path):
  needle = clips.write_picture(tmp_path / "needle.png", 200)
  timeline = (Scene(clip), Scene(needle, "still", t1=0.5, at=2.0))
  numbers, seen = on_timeline(timeline, [1.9, 2.0, 2.49, 2.5, 5.9, 9.0])
  assert numbers == [19, 200, 200, 25, 59, 59]
  np.testing.assert_allclose(seen, [1.9, 2.0, 2.0, 2.5, 5.9, 5.9], atol=1e-6)


def test_timeline_of_a_bad_file_names_it(tmp_path):
  path = clips.write_empty(tmp_path / "empty.mp4")
  for timeline in ((Scene(path),), (Scene(path), Scene(path, at=1.0))):
    with pytest.raises(video.MediaError, match="is empty"):
      video.read_timeline(timeline, [0.0], SIZE)
