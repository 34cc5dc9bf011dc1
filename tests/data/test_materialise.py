# SPDX-License-Identifier: Apache-2.0
"""Rows against the contract: packed equals unpacked, bad media are masked in place."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from data_pipelines.loader import make_plan
from data_pipelines.packing import rows as materialise
from data_pipelines.packing.planner import PlanRow
from data_pipelines.sample import Sample, Scene
from filax.spec import BATCH, TEXT
from filax.testing import clips, corpora, manifests

K, N = corpora.LAYOUT.frames_per_group, corpora.LAYOUT.tokens_per_group


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def all_rows(pipe):
  """(PlanRow, arrays) of epoch 0."""
  build = pipe.materialise()
  return [(row, build(row)) for row in map(pipe.row, range(pipe.plan.row_count(0)))]


def content(row, shape, layout=corpora.LAYOUT):
  """What each row of the visual table stands for, told by its pixels."""
  groups = row["frames"].reshape(-1, layout.frames_per_group * layout.size**2 * 3)
  views = row["images"].reshape(len(row["images"]), -1)
  table = [("video", g.tobytes(), n) for g in groups for n in range(layout.tokens_per_group)]
  table += [("image", v.tobytes(), n) for v in views for n in range(layout.tokens_per_image)]
  assert len(table) == layout.newline_index(shape)
  return [*table, ("newline",)]


def segment(row, shape, number, layout=corpora.LAYOUT):
  """Everything that a row holds of one segment, independent of its place."""
  here = row["segment_ids"] == number
  table = content(row, shape, layout)
  out = {k: row[k][here] for k in ("tokens", "targets", "loss_mask", "positions")}
  out["shown"] = [None if i == TEXT else table[i] for i in row["visual_index"][here]]
  frames, images = row["frame_segment_ids"] == number, row["image_segment_ids"] == number
  out |= {k: row[k][frames] for k in ("frames", "frame_positions", "frame_times")}
  return out | dict(images=row["images"][images])


def test_a_clip_of_the_encoder_holds_frames_of_one_video(folder):
  """With groups of 3 and clips of 4 frames, a video has a multiple of 12."""
  layout = dataclasses.replace(corpora.LAYOUT, clip=4)
  sampling = dict(name="dynamic_fps", frames=36, low=12, fps=6.0, phase="middle")
  pipe = corpora.open_pipeline(folder, layout=layout, sampling=sampling, rows=((72, 2, 400, 6),))
  most = 0
  for row, out in all_rows(pipe):
    most = max(most, len(row.samples))
    clips_of_row = out["frame_segment_ids"].reshape(-1, 4)
    assert (clips_of_row == clips_of_row[:, :1]).all()
    first_positions = out["frame_positions"].reshape(-1, 4)[:, 0]
    assert not (first_positions % 4).any()
  assert most > 1, "several videos share a row"
  with pytest.raises(ValueError, match=r"sampling\.frames=6 .* 12 frames .*encoder\.clip"):
    corpora.open_pipeline(folder, layout=layout, rows=((24, 2, 400, 6),))
  with pytest.raises(ValueError, match=r"a row of 18 frames.* multiple of the 12 .* Set it to 24"):
    corpora.open_pipeline(folder, layout=layout, sampling=sampling, rows=((18, 2, 400, 6),))


@pytest.mark.parametrize("newline", ["one_token", "grid", "frame", "none"])
def test_packed_segments_equal_rows_of_their_own(folder, newline):
  layout = dataclasses.replace(corpora.LAYOUT, newline=newline)
  settings = dict(
    layout=layout,
    images=dict(mode="anyres", tiles=3),
    rows=((12, 4, 300, 4),),
    time_prompt="fila",
    sampling=dict(name="uniform", frames=6, phase="middle"),
  )
  packed, single = (
    corpora.open_pipeline(folder, **settings),
    corpora.open_pipeline(folder, **settings, packing=False),
  )
  alone = {
    row.samples[0]: segment(out, single.plan.row_shapes[0], 1, layout)
    for row, out in all_rows(single)
  }
  assert len(alone) == len(packed.plan.samples)
  joined = 0
  for row, out in all_rows(packed):
    joined += len(row.samples) > 1
    for number, sample in enumerate(row.samples, 1):
      theirs = segment(out, packed.plan.row_shapes[0], number, layout)
      assert theirs.pop("shown") == alone[sample]["shown"]
      for key, value in theirs.items():
        np.testing.assert_array_equal(value, alone[sample][key], err_msg=key)
  assert joined >= 2


@pytest.fixture(scope="module")
def plain(folder):
  """A pipeline of packed rows, and its rows (PlanRow, arrays)."""
  pipe = corpora.open_pipeline(folder)
  return pipe, all_rows(pipe)


def segments_of(row):
  return range(1, len(row.samples) + 1)


def test_arrays_have_the_shapes_and_dtypes_of_the_contract(plain):
  pipe, rows = plain
  expected = {
    k: (s[1:], d) for k, (s, d) in pipe.plan.row_shapes[0].shapes(1, corpora.LAYOUT.size).items()
  }
  assert set(expected) == set(BATCH)
  for row, out in rows:
    assert {k: (v.shape, v.dtype) for k, v in out.items()} == expected, row


def test_segments_follow_each_other_and_padding_ends_the_row(plain):
  for row, out in plain[1]:
    text = out["segment_ids"]
    used = (text > 0).sum()
    assert set(text[:used]) == set(segments_of(row)), row
    assert (np.diff(text[:used]) >= 0).all(), row
    assert not text[used:].any(), row


def test_groups_of_frames_are_never_shared(plain):
  for row, out in plain[1]:
    groups = out["frame_segment_ids"].reshape(-1, K)
    assert (groups == groups[:, :1]).all(), row


def test_positions_and_targets_run_within_a_segment(plain):
  for row, out in plain[1]:
    for number in segments_of(row):
      here = np.flatnonzero(out["segment_ids"] == number)
      np.testing.assert_array_equal(out["positions"][here], np.arange(len(here)))
      np.testing.assert_array_equal(out["targets"][here[:-1]], out["tokens"][here[1:]])


def test_something_is_supervised_but_never_the_last_token(plain):
  for row, out in plain[1]:
    for number in segments_of(row):
      here = np.flatnonzero(out["segment_ids"] == number)
      assert out["loss_mask"][here].sum() > 0, (row, number)
      assert out["loss_mask"][here[-1]] == 0, (row, number)


def test_frames_of_a_segment_are_counted_from_0(plain):
  for row, out in plain[1]:
    for number in segments_of(row):
      frames = out["frame_segment_ids"] == number
      np.testing.assert_array_equal(out["frame_positions"][frames], np.arange(frames.sum()))


def test_visual_places_hold_the_pad_token(plain):
  pad = plain[0].plan.tokenizer.pad_id
  for row, out in plain[1]:
    assert (out["tokens"][out["visual_index"] != TEXT] == pad).all(), row


def test_padding_is_text_without_loss(plain):
  pad = plain[0].plan.tokenizer.pad_id
  for row, out in plain[1]:
    padding = out["segment_ids"] == 0
    assert (out["tokens"][padding] == pad).all(), row
    assert (out["visual_index"][padding] == TEXT).all(), row
    assert not out["loss_mask"][padding].any(), row


def test_no_segment_sees_frames_of_another(plain):
  pipe, rows = plain
  first_image = corpora.LAYOUT.first_image(pipe.plan.row_shapes[0])
  for _, out in rows:
    index = out["visual_index"]
    shown = (index != TEXT) & (index < first_image)
    owners = out["frame_segment_ids"][index[shown] // N * K]
    np.testing.assert_array_equal(owners, out["segment_ids"][shown])


def test_sound_media_are_not_counted_as_bad(plain):
  for row, out in plain[1]:
    assert out["num_bad"] == 0, row


def frames_of(pipe, origin):
  for row, out in all_rows(pipe):
    for number, n in enumerate(row.samples, 1):
      if pipe.plan.samples[n].origin.endswith(f":{origin}"):
        return out, out["frame_segment_ids"] == number, out["segment_ids"] == number
  raise LookupError(origin)


@pytest.mark.parametrize(
  ("line", "shown", "times"),
  [
    (2, [0, 7, 15, 23, 31, 39], [0, 0.7, 1.5, 2.3, 3.1, 3.9]),
    (3, [10, 13, 17, 21, 25, 29], [0, 0.3, 0.7, 1.1, 1.5, 1.9]),
    (4, [0] * 6, [0] * 6),
    (8, [0, 5, 11, 109, 114, 119], [0, 0.5, 1.1, 1.625, 2.25, 2.875]),
    (10, [0, 1, 2, 4, 5, 7], [0, 0.5, 1.0, 2.0, 2.5, 3.5]),
  ],
)
def test_frames_are_those_on_screen(folder, line, shown, times):
  out, frames, _ = frames_of(corpora.open_pipeline(folder), line)
  assert clips.read_numbers(out["frames"][frames]) == shown
  np.testing.assert_allclose(out["frame_times"][frames], times, atol=1e-3)


def test_time_prompt_tells_the_middle_frames(folder):
  pipe = corpora.open_pipeline(folder, time_prompt="fila", rows=((12, 2, 400, 4),))
  out, _, text = frames_of(pipe, 2)
  assert (
    "What is shown? This video samples 2 frames of a 4.00-second video at 0.78, 3.12 seconds."
    in pipe.plan.tokenizer.decode(out["tokens"][text])
  )


def test_random_phase_moves_with_the_epoch(folder):
  pipe = corpora.open_pipeline(
    folder,
    sampling=dict(name="uniform", frames=6, phase="random"),
    packing=False,
    rows=((12, 2, 224, 1),),
  )
  build, times = pipe.materialise(), {}
  for number in range(pipe.plan.row_count(0) + pipe.plan.row_count(1)):
    row = pipe.row(number)
    if pipe.plan.samples[row.samples[0]].origin.endswith(":2"):
      times[row.epoch] = build(row)["frame_times"][:6]
  assert len(times) == 2 and not np.allclose(times[0], times[1])
  for seen in times.values():
    assert (np.diff(seen) > 0.5).all()


@pytest.mark.parametrize("name", clips.BROKEN_VIDEOS)
def test_bad_media_are_masked_in_place_and_listed_once(folder, tmp_path, name):
  shutil.copytree(folder, tmp_path / "corpus")
  broken, listed = tmp_path / "corpus" / "b.mp4", tmp_path / "quarantine.jsonl"
  sound = all_rows(corpora.open_pipeline(tmp_path / "corpus"))
  broken.unlink()
  clips.BROKEN_VIDEOS[name][0](broken)
  pipe = corpora.open_pipeline(tmp_path / "corpus", quarantine=listed)
  masked = 0
  for _ in range(2):
    for (row, before), (same, after) in zip(sound, all_rows(pipe), strict=True):
      assert row == same
      bad = [
        n for n, s in enumerate(row.samples, 1) if str(broken) in str(pipe.plan.samples[s].media)
      ]
      assert after["num_bad"] == len(bad)
      text, frames = np.isin(before["segment_ids"], bad), np.isin(before["frame_segment_ids"], bad)
      assert not after["loss_mask"][text].any()
      for key in set(BATCH) - {"num_bad", "loss_mask", "frames", "frame_times"}:
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)
      np.testing.assert_array_equal(after["loss_mask"][~text], before["loss_mask"][~text])
      for key in ("frames", "frame_times"):
        np.testing.assert_array_equal(after[key][~frames], before[key][~frames], err_msg=key)
      masked += len(bad)
  assert masked == 4  # The timeline of two scenes, and the sample of two videos; twice.
  (entry,) = map(json.loads, listed.read_text().splitlines())
  assert entry["media"] == str(broken) and "b.mp4" in entry["error"]
  assert "manifest.json:" in entry["origin"]
  spared = corpora.open_pipeline(tmp_path / "corpus", exclude=str(listed))
  assert spared.plan.report["excluded"] == 2 and spared.fingerprint != pipe.fingerprint
  assert not any(out["num_bad"] for _, out in all_rows(spared))


def test_pictures_are_masked_too(folder, tmp_path):
  shutil.copytree(folder, tmp_path / "corpus")
  clips.write_noise(tmp_path / "corpus" / "tall.png")
  rows = all_rows(
    corpora.open_pipeline(
      tmp_path / "corpus", images=dict(mode="anyres", tiles=2), rows=((12, 4, 224, 4),)
    )
  )
  assert sum(out["num_bad"] for _, out in rows) == 1


def test_a_part_after_the_end_blames_the_sample(folder, tmp_path):
  asked = manifests.question_record("<image>\nWhat?", "A.", video="a.mp4")
  manifests.write_manifest(
    folder / "late.json", [asked | dict(start=n, end=n + 1) for n in (3, 5, 6)]
  )
  settings = dict(train=((str(folder / "late.json"), "all"),), packing=False, batch=1)
  listed = tmp_path / "q.jsonl"
  assert (
    sum(
      out["num_bad"]
      for _, out in all_rows(corpora.open_pipeline(folder, quarantine=listed, **settings))
    )
    == 2
  )
  assert listed.read_text().count("before its part begins") == 2
  spared = corpora.open_pipeline(folder, exclude=str(listed), **settings)
  assert [s.origin.rsplit(":")[-1] for s in spared.plan.samples] == ["2"]


def test_a_defect_of_ours_ends_the_run_and_blames_no_file(folder, tmp_path):
  pipe = corpora.open_pipeline(folder)
  good = pipe.plan.samples[0]
  unknown = Sample("x", good.turns, ((Scene("never probed.mp4"),),), "made up:1")
  build = dataclasses.replace(
    pipe.materialise(), samples=(unknown, good), quarantine=tmp_path / "q.jsonl"
  )
  with pytest.raises(materialise.SampleError, match=r"made up:1: KeyError: .*never probed"):
    build(PlanRow(0, 0, 0, (0, 1)))
  assert not (tmp_path / "q.jsonl").exists()


def test_too_little_memory_is_no_defect(folder):
  def full(*_, **__):
    raise MemoryError("Unable to allocate 226 MiB")

  pipe = corpora.open_pipeline(folder)
  build = dataclasses.replace(pipe.materialise(), read=full)
  with pytest.raises(MemoryError, match="226 MiB"):
    for number in range(pipe.plan.row_count(0)):
      build(pipe.row(number))


def _mistaken(*_, **__):
  raise ValueError("config.x=3 cannot be used. Set config.x to 4.")


def _broken(*_, **__):
  raise TypeError("no such argument")


@pytest.mark.parametrize(
  "read, sentence",
  [
    (_mistaken, r"^config\.x=3 cannot be used\. Set config\.x to 4\.$"),
    (_broken, r"manifest\.json:.*TypeError: no such argument\. This is a defect of FiLax"),
  ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_arrives_through_threads_and_workers(
  folder, tmp_path, monkeypatch, workers, read, sentence
):
  monkeypatch.setattr("data_pipelines.media.frames.read_frames", read)
  pipe = corpora.open_pipeline(folder, workers=workers, quarantine=tmp_path / "q.jsonl")
  with pipe.batches() as batches, pytest.raises(ValueError) as error:
    for _ in range(8):
      next(batches)
  assert re.search(sentence, str(error.value))  # Grain adds notes behind it.
  assert not (tmp_path / "q.jsonl").exists()


def test_a_wrong_setting_is_refused_before_anything_is_read(tmp_path):
  """There is no manifest, no tokenizer and no medium."""
  data = corpora.data_config(tmp_path) | dict(train=(("none.json", "all"),), tokenizer="none.json")
  for change in (
    dict(resize="stretch"),
    dict(images=dict(mode="crop", tiles=1)),
    dict(sampling=dict(name="all", frames=6, phase="ends")),
    dict(rows=(1, 2, 3, 4)),
    dict(workers=-1),
    dict(open_seconds=0.0),
  ):
    with pytest.raises(ValueError, match=r"config\.data\.(\w|\.)*=.* Set it to"):
      make_plan(data | change, corpora.LAYOUT, 0, 2)


def test_parts_of_the_frames_make_the_whole(folder):
  pipe = corpora.open_pipeline(folder)
  whole, parts = pipe.materialise(), [pipe.materialise((i, 4)) for i in range(4)]
  for row in map(pipe.row, range(pipe.plan.row_count(0))):
    expected, made = whole(row), [part(row) for part in parts]
    for key, value in expected.items():
      if key.startswith("frame"):
        np.testing.assert_array_equal(np.concatenate([m[key] for m in made]), value, err_msg=key)
      else:
        for m in made:
          np.testing.assert_array_equal(m[key], value, err_msg=key)


def test_blank_rows_differ_in_pixels_alone(folder):
  for (_, seen), (_, blank) in zip(
    all_rows(corpora.open_pipeline(folder)),
    all_rows(corpora.open_pipeline(folder, blank=True)),
    strict=True,
  ):
    for key in set(BATCH) - {"frames", "images", "frame_times"}:
      np.testing.assert_array_equal(blank[key], seen[key], err_msg=key)
    for pixels, owner in (("frames", "frame_segment_ids"), ("images", "image_segment_ids")):
      assert (blank[pixels][blank[owner] > 0] == 127).all()
      assert not blank[pixels][blank[owner] == 0].any()


def test_cached_frames_are_the_same(folder, tmp_path):
  plain = all_rows(corpora.open_pipeline(folder))
  for _ in range(2):  # Filled, then read.
    cached = all_rows(corpora.open_pipeline(folder, cache=str(tmp_path)))
    for (_, a), (_, b) in zip(plain, cached, strict=True):
      for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
  assert list(tmp_path.glob("sizes-*.npy")) and (tmp_path / "index.sqlite").exists()


def test_only_a_picture_of_its_own_gets_tiles(folder):
  pipe = corpora.open_pipeline(folder, images=dict(mode="anyres", tiles=2), rows=((12, 4, 224, 4),))
  numbers = {s.origin.rsplit(":")[-1]: n for n, s in enumerate(pipe.plan.samples)}

  def views(line):
    return [
      x.views.count
      for x in pipe.plan.composer.timeline_layouts(pipe.plan.samples[numbers[line]], 0, 0)
    ]

  assert views("5") == [3] and views("6") == [1, 1]  # Alone: with tiles; several: padded.


def test_records_cover_every_kind(tmp_path):
  kinds = {
    key for record in corpora.write_media(tmp_path) for key in record if key != "conversations"
  }
  assert kinds == {"video", "image", "scenes", "start", "end"}
