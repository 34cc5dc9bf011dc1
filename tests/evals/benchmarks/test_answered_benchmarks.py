# SPDX-License-Identifier: Apache-2.0
"""Evaluations on real clips: NExT-QA, Charades-STA and the full set of EgoSchema."""

import json

import pytest

import filax
from filax.testing import benchmark_files_more as files
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

OPTIONS = dict(max_new_tokens=4, batch=4, progress=False)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def nextqa(session, tmp_path_factory):
  """(result, folder of results) of three questions, of which one has no video."""
  data = tmp_path_factory.mktemp("nextqa")
  files.write_nextqa(data)
  for name in ("1106/4010069381", "0036/2574374895"):
    path = data / f"NExTVideo/{name}.mp4"
    path.parent.mkdir(parents=True)
    clips.write_video(path, 20)
  out = data / "out"
  result = filax.evaluate(session, "nextqa", data=data, allow_missing=True, out=out, **OPTIONS)
  return result, out


def test_questions_with_videos_are_answered(nextqa):
  result, _ = nextqa
  assert [row["id"] for row in result["answers"]] == ["4010069381_6", "2574374895_8"]
  assert (result["protocol"], result["total"], result["questions"]) == ("lmms-eval", 3, 2)


def test_the_first_prompt_is_kept(nextqa):
  result, _ = nextqa
  assert "how do the two man play the instrument\nA. roll the handle\nB." in result["first_prompt"]


def test_scores_come_by_type_and_group(nextqa):
  result, out = nextqa
  by = json.loads((out / "result.json").read_text())["by"]
  assert set(by["type"]) == {"CH", "TN"} and set(by["group"]) == {"causal", "temporal"}
  assert result["chance"] == 0.2


def test_fewer_questions_are_not_comparable(nextqa):
  result, _ = nextqa
  assert not result["comparable"]
  assert any("2 of 8564 questions" in reason for reason in result["reasons"])


def test_spans_are_scored_by_overlap(session, tmp_path):
  record = dict(video="ABCDE.mp4", caption="person sits.", timestamp=[0.5, 1.5])
  files.write_json(tmp_path / "temporal_grounding_charades.json", [record])
  (tmp_path / "Charades_v1_480").mkdir()
  clips.write_video(tmp_path / "Charades_v1_480/ABCDE.mp4", 20)
  result = filax.evaluate(session, "charades_sta", data=tmp_path, protocol="vcf", **OPTIONS)
  (row,) = result["answers"]
  assert row["iou"] == 0 and row["question"] == ""
  assert result["metric"] == "R@0.5"
  assert {"R@0.3", "R@0.5", "R@0.7", "mIoU"} <= set(result["scores"])


def test_the_full_egoschema_writes_a_submission(session, tmp_path):
  files.write_egoschema(tmp_path, count=3)
  (tmp_path / "videos").mkdir()
  for number in range(2):
    clips.write_video(tmp_path / f"videos/uid-{number}.mp4", 20)
  out = tmp_path / "out"
  result = filax.evaluate(
    session, "egoschema_full", data=tmp_path, allow_missing=True, out=out, **OPTIONS
  )
  assert result["questions"] == 2
  submission = json.loads((out / "submission.json").read_text())
  assert list(submission) == ["uid-0", "uid-1", "uid-2"]  # The last one has no video.
  assert set(submission.values()) <= set(range(5))
  assert result["accuracy"] is None and not result["comparable"]
