# SPDX-License-Identifier: Apache-2.0
"""The same batches for any threads, workers, processes and starting points; clear errors."""

import itertools
import json

import numpy as np
import pytest

from data_pipelines.loader import Pipeline, make_plan
from filax.spec import BATCH
from filax.testing import clips, corpora, manifests

TWO = ((6, 0, 64, 2), (12, 2, 224, 4))
RANDOM = dict(name="uniform", frames=6, phase="random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def taken(pipe, count, *args, **kwargs):
  with pipe.batches(*args, **kwargs) as batches:
    return list(itertools.islice(batches, count))


def assert_same(batches, expected):
  for ours, theirs in zip(batches, expected, strict=True):
    assert set(ours) == set(theirs) == set(BATCH)
    for key in theirs:
      np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_batches_follow_the_plan_over_epochs(folder):
  pipe = corpora.open_pipeline(folder, rows=TWO, sampling=RANDOM)
  build = pipe.materialise()
  count = (pipe.plan.row_count(0) + pipe.plan.row_count(1)) // 2 + 1
  assert (
    pipe.steps(2) == count - 1
    and pipe.steps(0) == 0
    and pipe.steps(1) == pipe.plan.row_count(0) // 2
  )
  assert pipe.steps(0.5) == -(-pipe.plan.row_count(0) // 4)
  shapes = set()
  for n, batch in enumerate(taken(pipe, count)):
    shape = pipe.plan.row_shapes[pipe.row(2 * n).shape]
    shapes.add(shape)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == shape.shapes(2, corpora.LAYOUT.size)
    assert_same(
      [batch], [{k: np.stack([build(pipe.row(2 * n + i))[k] for i in range(2)]) for k in BATCH}]
    )
  assert shapes == set(pipe.plan.row_shapes)


def test_threads_and_workers_do_not_change_batches(folder):
  def made(**how):
    return taken(corpora.open_pipeline(folder, rows=TWO, sampling=RANDOM, **how), 5)

  expected = made(threads=1)
  assert_same(made(threads=3, prefetch=4), expected)
  assert_same(made(threads=1, workers=2), expected)


def test_a_run_resumes_from_one_integer_on_any_number_of_processes(folder):
  pipe = corpora.open_pipeline(folder, batch=4, sampling=RANDOM)
  expected = taken(pipe, 5)
  again = corpora.open_pipeline(folder, batch=4, sampling=RANDOM)
  assert again.fingerprint == pipe.fingerprint
  assert_same(taken(again, 2, 12), expected[3:])
  halves = [taken(again, 3, 8, process, 2) for process in range(2)]
  joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)]
  assert_same(joined, expected[2:])


def test_a_seq_slice_holds_its_part_of_the_frames(folder):
  pipe = corpora.open_pipeline(folder)
  (whole,) = taken(pipe, 1)
  parts = [taken(pipe, 1, seq_slice=(i, 2))[0] for i in range(2)]
  for key, value in whole.items():
    if key.startswith("frame"):
      np.testing.assert_array_equal(np.concatenate([p[key] for p in parts], axis=1), value)
    else:
      np.testing.assert_array_equal(parts[1][key], value)
  with pytest.raises(ValueError, match=r"12 frames does not split into 3 parts.*config\.mesh\.seq"):
    pipe.batches(seq_slice=(0, 3))


def test_batches_close_at_any_time(folder):
  pipe = corpora.open_pipeline(folder)
  batches = pipe.batches()
  next(batches)
  batches.close()
  batches.close()
  assert list(batches) == []
  pipe.batches().close()


def test_unreadable_media_leave_all_other_samples_alone(folder, tmp_path):
  manifests.write_manifest(
    folder / "gone.json",
    [
      manifests.question_record(f"<image>\nWhat {n}?", "A.", video="a.mp4" if n % 2 else "gone.mp4")
      for n in range(6)
    ],
  )
  gone = folder / "gone.mp4"
  settings = dict(train=((str(folder / "gone.json"), "all"),), quarantine=tmp_path / "q.jsonl")
  clips.write_video(gone, 30, 10)
  sound = corpora.open_pipeline(folder, **settings)
  expected = taken(sound, 3)
  gone.unlink()
  pipe = corpora.open_pipeline(folder, **settings)
  assert pipe.fingerprint == sound.fingerprint and pipe.plan.report["unreadable"] == 1
  planned = [n for row in map(pipe.row, range(pipe.plan.row_count(0))) for n in row.samples]
  bad = sum(pipe.plan.samples[n].media[0][0].media == str(gone) for n in planned)
  assert bad >= 3 == sum(batch["num_bad"].sum() for batch in taken(pipe, pipe.steps(1))) - bad + 3
  for ours, theirs in zip(taken(pipe, 3), expected, strict=True):
    for key in ("tokens", "targets", "segment_ids", "positions", "visual_index"):
      np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
  assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 1


def test_report_and_attributes(folder):
  manifests.write_manifest(
    folder / "mixed.json",
    [
      manifests.question_record("<image>\nWhat?", "A.", video="a.mp4"),
      {"conversations": []},
      manifests.question_record("What?", "long " * 200),
      manifests.question_record("Hi.", "Hello."),
    ],
  )
  pipe = corpora.open_pipeline(
    folder,
    train=((str(folder / "mixed.json"), "all"), (str(folder / "manifest.json"), "first:2")),
    too_long="skip",
  )
  report = json.loads(json.dumps(pipe.plan.report))
  assert report["samples"] == 5 and report["media"] == 1 and report["unreadable"] == 0
  assert len(report["bad_records"]) == 1 and "mixed.json:3" in report["bad_records"][0]
  assert [origin.rsplit("/")[-1] for origin in report["too_long"]] == ["mixed.json:4"]
  assert len(report["needs"]) == 1 and report["needs"][0].startswith("1 need up to ")
  assert report["needs"][0].endswith("(number 3 of a row)")
  assert report["rows"] == sum(report["rows_of_shape"]) == pipe.plan.row_count(0)
  assert (
    0 < report["token_fill"] < 1
    and 0 < report["frame_fill"] <= 1
    and report["samples_per_row"] >= 1
  )
  assert report["suggest"][1] >= 12 and pipe.plan.tokenizer.vocab_size > 256
  with pytest.raises(ValueError, match=r"1 of 5 samples fit in no row; .*mixed\.json:4 needs"):
    corpora.open_pipeline(
      folder,
      train=((str(folder / "mixed.json"), "all"), (str(folder / "manifest.json"), "first:2")),
      too_long="error",
    )


def test_fingerprint_sees_what_decides_rows_and_nothing_else(folder, tmp_path):
  same = [{}, dict(threads=5, prefetch=9), dict(cache=str(tmp_path)), dict(decode_seconds=9.0)]
  assert len({corpora.open_pipeline(folder, **change).fingerprint for change in same}) == 1
  other = [
    {},
    dict(seed=1),
    dict(batch=4),
    dict(packing=False),
    dict(system=""),
    dict(labels="answer_only"),
    dict(template="plain"),
    dict(rows=((12, 2, 256, 4),)),
    dict(train=((str(folder / "manifest.json"), "first:8"),)),
    dict(sampling=RANDOM),
    dict(images=dict(mode="pad", tiles=1)),
    dict(time_prompt="llava", rows=((12, 2, 400, 4),)),
  ]
  assert len({corpora.open_pipeline(folder, **change).fingerprint for change in other}) == len(
    other
  )


def test_sizes_are_measured_once(folder, tmp_path, capsys):
  first = corpora.open_pipeline(folder, cache=str(tmp_path))
  (remembered,) = tmp_path.glob("sizes-*.npy")
  before = remembered.stat().st_ino
  again = corpora.open_pipeline(folder, cache=str(tmp_path))
  assert again.fingerprint == first.fingerprint and remembered.stat().st_ino == before
  remembered.write_bytes(b"torn")
  assert corpora.open_pipeline(folder, cache=str(tmp_path)).fingerprint == first.fingerprint
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and str(remembered) in line
  corpora.open_pipeline(folder, cache=str(tmp_path), system="Another.")
  assert len(list(tmp_path.glob("sizes-*.npy"))) == 2


def test_times_drawn_anew_are_measured_every_epoch(folder):
  settings = dict(sampling=RANDOM, time_prompt="llava", rows=((12, 2, 400, 4),), packing=False)
  pipe = corpora.open_pipeline(folder, **settings)
  texts = []
  for batch in taken(pipe, pipe.steps(2)):
    assert not batch["num_bad"].any()
    texts += [
      pipe.plan.tokenizer.decode(row[ids == 1])
      for row, ids in zip(batch["tokens"], batch["segment_ids"], strict=True)
    ]
  drawn = {text for text in texts if "What is shown?" in text}
  assert len(drawn) == 2 and all("The video lasts for 4.00 seconds" in text for text in drawn)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(rows=((12, 2, 20, 4),)), r"9 of 9 samples fit in no row.*rows to larger rows\.$"),
    (dict(sampling=dict(RANDOM, frames=5)), r"config\.data\.sampling\.frames=5"),
    (dict(rows=((10, 2, 224, 4),)), r"10 frames.*config\.model\.selector\.size"),
    (dict(template="llama"), r"config\.data\.template='llama'"),
    (dict(labels="all"), r"config\.data\.labels='all'"),
    (dict(time_prompt="maybe"), r"config\.data\.time_prompt='maybe'"),
    (dict(too_long="cut", rows=((12, 2, 100, 4),)), r"config\.data\.too_long='cut'"),
    (dict(tokenizer="missing.json"), r"config\.data\.tokenizer"),
    (dict(train=(("missing.json", "all"),)), "missing.json"),
    (dict(train=()), r"There are no samples.*config\.data\.train"),
    (dict(batch=0), r"config\.batch=0"),
  ],
)
def test_errors_name_the_knob(folder, change, message):
  with pytest.raises(ValueError, match=message) as error:
    corpora.open_pipeline(folder, **change)
  assert "\n" not in str(error.value)


def test_records_that_are_all_bad_are_named(folder, tmp_path):
  path = manifests.write_manifest(tmp_path / "m.json", [{"id": 1}, {"id": 2}])
  with pytest.raises(ValueError, match=r"All 2 records of config\.data\.train are bad") as error:
    corpora.open_pipeline(folder, train=((path, "all"),))
  assert f"The first is {path}:2: has no conversations" in str(error.value)


def test_sharing_and_starting_are_checked(folder):
  pipe = corpora.open_pipeline(folder, batch=3)
  with pytest.raises(ValueError, match=r"config\.batch=3 .* 2 processes"):
    pipe.batches(0, 0, 2)
  with pytest.raises(ValueError, match="Row 4 is not the first"):
    pipe.batches(4)


def test_config_dicts_are_welcome(folder):
  from ml_collections import ConfigDict

  config = ConfigDict(corpora.data_config(folder))
  assert (
    Pipeline(make_plan(config, corpora.LAYOUT, 0, 2)).fingerprint
    == corpora.open_pipeline(folder).fingerprint
  )
