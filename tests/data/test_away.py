# SPDX-License-Identifier: Apache-2.0
"""Files that are away, at a restart or from the start."""

import pytest

from filax.testing import clips, corpora, manifests

FILES = ("b.mp4", "tall.png", "one.mp4")
DEPENDS = [  # Settings under which sizes depend on media, and so the whole plan does.
  dict(time_prompt="llava", rows=((12, 4, 400, 4),)),
  dict(
    sampling=dict(name="dynamic_fps", frames=12, low=3, multiple=3, phase="middle"),
    rows=((30, 4, 400, 4),),
  ),
  dict(images=dict(mode="anyres", tiles=3), rows=((12, 8, 400, 4),)),
]


def plan(pipe):
  return [pipe.row(number) for number in range(pipe.plan.row_count(0) + pipe.plan.row_count(1))]


def spoil(path):
  path.write_bytes(path.read_bytes()[:40])


def remove(path):
  path.unlink()


@pytest.mark.parametrize("settings", DEPENDS)
@pytest.mark.parametrize("harm", [remove, spoil])
def test_the_plan_stays_and_the_samples_are_masked(tmp_path, settings, harm):
  folder, listed = corpora.write_corpus(tmp_path), tmp_path / "run" / "quarantine.jsonl"
  before = corpora.open_pipeline(folder, quarantine=listed, packing=False, **settings)
  sound = sum(batch["num_bad"].sum() for batch in _epoch(before))
  for name in FILES:
    harm(folder / name)
  after = corpora.open_pipeline(folder, quarantine=listed, packing=False, **settings)
  assert after.fingerprint == before.fingerprint and plan(after) == plan(before)
  assert after.plan.report["unreadable"] == len(FILES) and sound == 0
  hurt = [
    n
    for n, sample in enumerate(after.plan.samples)
    if any(scene.media.endswith(FILES) for timeline in sample.media for scene in timeline)
  ]
  planned = [n for row in map(after.row, range(after.plan.row_count(0))) for n in row.samples]
  bad = sum(batch["num_bad"].sum() for batch in _epoch(after))
  assert bad == sum(n in hurt for n in planned) > 0
  assert all(name in listed.read_text() for name in FILES)


def _epoch(pipe):
  with pipe.batches() as batches:
    return [next(batches) for _ in range(pipe.steps(1))]


def test_a_file_that_comes_later_does_not_change_the_plan_of_a_resumed_run(tmp_path):
  folder, listed = corpora.write_corpus(tmp_path), tmp_path / "run" / "quarantine.jsonl"
  (folder / "b.mp4").unlink()
  first = corpora.open_pipeline(folder, quarantine=listed, packing=False, **DEPENDS[1])
  clips.write_video(folder / "b.mp4", 48, 8)
  resumed = corpora.open_pipeline(
    folder, quarantine=listed, packing=False, planned=first.plan.ingredients["media"], **DEPENDS[1]
  )
  assert resumed.fingerprint == first.fingerprint
  assert resumed.plan.report["unreadable"] == 1
  fresh = corpora.open_pipeline(folder, quarantine=listed, packing=False, **DEPENDS[1])
  assert fresh.fingerprint != first.fingerprint and fresh.plan.report["unreadable"] == 0


def test_another_file_under_the_name_is_another_plan(tmp_path):
  folder, listed = corpora.write_corpus(tmp_path), tmp_path / "run" / "quarantine.jsonl"
  first = corpora.open_pipeline(folder, quarantine=listed, packing=False, **DEPENDS[1])
  clips.write_video(folder / "b.mp4", 48, 8)
  second = corpora.open_pipeline(
    folder, quarantine=listed, packing=False, planned=first.plan.ingredients["media"], **DEPENDS[1]
  )
  assert second.fingerprint != first.fingerprint
  assert '"duration":3.0' in first.plan.ingredients["media"]["b.mp4"]
  assert '"duration":6.0' in second.ingredients["media"]["b.mp4"]


def test_hosts_may_keep_their_files_in_different_folders(tmp_path):
  (tmp_path / "one").mkdir()
  (tmp_path / "two" / "data").mkdir(parents=True)
  one, two = (
    corpora.open_pipeline(corpora.write_corpus(tmp_path / name)) for name in ("one", "two/data")
  )
  assert one.ingredients == two.ingredients and "b.mp4" in one.ingredients["media"]


def test_nothing_readable_is_refused(tmp_path):
  folder = corpora.write_corpus(tmp_path)
  for name in ("a.mp4", *FILES, "wide.png"):
    (folder / name).unlink()
  for picture in (folder / "frames").iterdir():
    picture.unlink()
  with pytest.raises(ValueError, match=r"6 of 6 media cannot be read; the first: .*config\.data\."):
    corpora.open_pipeline(folder)
  corpora.open_pipeline(folder, blank=True)  # What grey pictures show needs no file.


@pytest.mark.parametrize("missing, refused", [(18, False), (19, True)])
def test_hardly_anything_readable_is_refused(tmp_path, missing, refused):
  folder = corpora.write_corpus(tmp_path)
  more = [
    manifests.question_record("<image>\nWhat?", "A.", video=f"away{n}.mp4") for n in range(missing)
  ]
  sound = [r for r in corpora.write_media(folder) if r.get("video") in ("a.mp4", "one.mp4")][:3]
  manifests.write_manifest(folder / "manifest.json", sound + more)
  if refused:
    with pytest.raises(ValueError, match=r"19 of 21 media cannot be read"):
      corpora.open_pipeline(folder)
  else:
    assert corpora.open_pipeline(folder).plan.report["unreadable"] == missing
