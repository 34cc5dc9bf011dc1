# SPDX-License-Identifier: Apache-2.0
"""Which lines of subtitles a prompt shows, by the rules of the harnesses."""

import numpy as np
import pytest

from filax.evals import subtitles
from filax.evals.kit import Subtitle
from filax.testing import benchmark_files

FONT = benchmark_files.FONT


@pytest.fixture
def text(tmp_path):
  return subtitles.srt_text(benchmark_files.write_captions(tmp_path, "video"))


def test_windows_line_ends_are_line_ends(text):
  assert "\r" not in text and "1\n00:00:00,200 --> 00:00:01,000\n" in text


def test_a_byte_order_mark_is_no_text(tmp_path):
  path = tmp_path / "marked.srt"
  path.write_bytes(b"\xef\xbb\xbf1\n")
  assert subtitles.srt_text(str(path)) == "1\n"


def test_whole_files_lose_captions_over_two_lines_and_without_a_tag(text):
  lines = subtitles.tagged_lines(text)
  assert lines == ["good morning", "first take", "the kettle", "and boils"]


def test_of_captions_with_equal_times_the_last_is_kept(text):
  captions = subtitles.srt_captions(text)
  assert [caption.text for caption in captions] == [
    f"{FONT}good morning</font>",
    f"{FONT}the kettle</font>",
    f"{FONT}is on the stove</font>",
    "[music]",
    f"{FONT}and boils</font>",
  ]
  assert captions[0] == Subtitle(0.2, 1.0, f"{FONT}good morning</font>")


def test_captions_of_sampled_frames_have_the_tag_and_cover_a_frame(text):
  captions = subtitles.srt_captions(text)
  lines = subtitles.captions_at_frames(captions, frames=40, fps=10.0, count=9)
  assert lines == ["good morning", "the kettle", "is on the stove", "and boils"]
  # Frames 0, 19 and 39.
  lines = subtitles.captions_at_frames(captions, frames=40, fps=10.0, count=3)
  assert lines == ["the kettle", "and boils"]


def test_captions_of_sampled_frames_are_in_the_order_of_a_set():
  captions = [Subtitle(1e6, 1e6, "")] * 1001
  captions[3] = Subtitle(0.0, 1.0, f"{FONT}early</font>")
  captions[1000] = Subtitle(9.0, 10.0, f"{FONT}late</font>")
  lines = subtitles.captions_at_frames(tuple(captions), frames=10, fps=1.0, count=2)
  assert lines == ["late", "early"]


def test_a_video_without_frames_has_no_captions(text):
  captions = subtitles.srt_captions(text)
  assert subtitles.captions_at_frames(captions, frames=0, fps=0.0, count=32) == []


def test_captions_at_the_times_of_frames_are_in_order_and_without_tags(text):
  captions = subtitles.srt_captions(text)
  lines = subtitles.captions_at_times(captions, np.array([3.2, 2.0, 1.0]))
  assert lines == ["the kettle", "is on the stove", "[music]"]


@pytest.mark.parametrize("times", ["00:00:01.000 --> 00:00:02.000", "soon", "00:01 --> 00:02"])
def test_a_caption_with_other_times_is_a_sentence(times):
  with pytest.raises(ValueError, match=f"the times '{times}'"):
    subtitles.srt_captions(f"1\n{times}\nwords\n\n")


def test_a_missing_file_is_a_sentence(tmp_path):
  with pytest.raises(ValueError, match=r"none\.srt cannot be read"):
    subtitles.srt_text(str(tmp_path / "none.srt"))


def entries(tmp_path, content=None):
  content = benchmark_files.longvideobench_subtitles() if content is None else content
  path = benchmark_files.write_json(tmp_path / "subtitles.json", content)
  return subtitles.timed_entries(path, duration=20.0, offset=765)


def test_both_forms_of_subtitles_are_shifted_to_the_video(tmp_path):
  found = {entry.text: (entry.start, entry.stop) for entry in entries(tmp_path)}
  assert found["ships come in"] == (0.0, 2.5)
  assert found["he waves"] == (10.5, 13.25)
  assert found["long before"] == pytest.approx((-761.8, -760.0))


def test_an_end_that_is_no_float_is_the_duration_before_the_shift(tmp_path):
  found = {entry.text: entry.stop for entry in entries(tmp_path)}
  assert found["no end"] == found["whole end"] == 20.0 - 765


def test_subtitles_are_kept_where_they_cover_a_nominal_time(tmp_path):
  times = subtitles.nominal_times(20.0, 16)
  assert subtitles.kept_entries(entries(tmp_path), times) == ["ships come in", "brief", "he waves"]


def test_a_subtitle_that_only_touches_a_time_is_left_out():
  touching = (Subtitle(1.0, 2.0, "touches"), Subtitle(0.9, 2.0, "covers"))
  assert subtitles.kept_entries(touching, np.array([1.0, 2.0])) == ["covers"]


def test_nominal_times_leave_the_end_out_or_are_whole_seconds():
  np.testing.assert_array_equal(subtitles.nominal_times(20.0, 4), [0, 5, 10, 15])
  np.testing.assert_array_equal(subtitles.nominal_times(3.9, 16), [0, 1, 2])


@pytest.mark.parametrize(
  "content",
  [
    {"timestamp": [1, 2]},
    [{"timestamp": [1.0, 2.0]}],
    [{"start": "1", "end": "2", "line": "x"}],
    [3],
  ],
)
def test_another_form_of_subtitles_is_a_sentence(tmp_path, content):
  with pytest.raises(ValueError, match=r"subtitles\.json is not a list of subtitles"):
    entries(tmp_path, content)
