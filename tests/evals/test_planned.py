# SPDX-License-Identifier: Apache-2.0
"""config.evals and config.best: what is refused before training, in one sentence."""

import json
import pathlib

from ml_collections import ConfigDict
import pytest

from filax import settings
from filax.cli import config_flags, show
from filax.evals import during_training, planned, scores
from filax.testing import clips

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def manifest(tmp_path):
  record = {
    "id": "a",
    "video": "a.mp4",
    "kind": "shape",
    "conversations": [
      {"from": "human", "value": "<image>\nWhat?"},
      {"from": "gpt", "value": "a bar"},
    ],
  }
  path = tmp_path / "held_out.json"
  path.write_text(json.dumps([record]))
  return str(path)


def write_still(manifest):
  """The medium of the manifest, so that it is not missing."""
  clips.write_video(pathlib.Path(manifest).with_name("a.mp4"), 4, 4)


def config(*rows, best=""):
  return ConfigDict(dict(evals=rows, best=best))


def test_names_come_from_files_and_are_told_apart():
  rows = (("a/held out.json", 1, 0), ("b/held out.json", 2, 5), ("c.jsonl", 3, 0))
  names = [evaluation.name for evaluation in planned.plan_evaluations(rows)]
  assert names == ["held_out", "held_out-2", "c"]


@pytest.mark.parametrize(
  "row",
  [("a.json", 0, 5), ("a.json", 1.5, 5), ("a.json", 1, -1), ("", 1, 1), ("a.json", 1), "a.json"],
)
def test_a_row_of_another_form_is_refused(row):
  with pytest.raises(ValueError, match=r"config.evals=.*cannot be used. Set it to"):
    settings.check_settings(dict(evals=(row,)))


@pytest.mark.parametrize("best", ["accuracy", "eval/accuracy", 3])
def test_a_best_of_another_form_is_refused(best):
  with pytest.raises(ValueError, match=r"config.best=.*cannot be used"):
    settings.check_settings(dict(best=best))


def test_a_missing_manifest_is_found_before_training(tmp_path):
  with pytest.raises(ValueError, match=r"There is no manifest .*gone.json"):
    during_training.evaluation_hooks(config((f"{tmp_path}/gone.json", 100, 5)))


def test_a_manifest_without_questions_is_found_before_training(tmp_path):
  path = tmp_path / "empty.json"
  path.write_text("[]")
  with pytest.raises(ValueError, match="holds no question"):
    during_training.evaluation_hooks(config((str(path), 100, 5)))


def test_an_unknown_benchmark_is_named():
  with pytest.raises(ValueError, match="There is no benchmark 'videommee'"):
    planned.plan_evaluations((("videommee", 100, 5, "/data"),))


def test_an_unknown_protocol_is_named(manifest):
  with pytest.raises(ValueError, match="the protocol 'vcff' is none"):
    planned.plan_evaluations(((manifest, 100, 5, "", "vcff"),))


def test_what_exists_becomes_a_hook(manifest):
  write_still(manifest)
  best = "eval/held_out/by_kind/shape"
  assert len(during_training.evaluation_hooks(config((manifest, 9, 0), best=best))) == 1


def test_a_best_of_no_evaluation_is_refused(manifest):
  with pytest.raises(ValueError, match="whose names are: held_out"):
    during_training.evaluation_hooks(config((manifest, 9, 0), best="eval/held-out/accuracy"))


def test_a_best_that_no_evaluation_gives_is_refused(manifest):
  with pytest.raises(ValueError, match=r"has no score 'acuracy'.*accuracy, loss"):
    during_training.evaluation_hooks(config((manifest, 9, 0), best="eval/held_out/acuracy"))


def test_a_folder_without_the_media_is_found_before_training(manifest, tmp_path):
  with pytest.raises(ValueError, match=r"1 media of eval/held_out are missing.*after the limit"):
    during_training.evaluation_hooks(config((manifest, 9, 0, str(tmp_path / "elsewhere"))))


def test_without_evals_there_is_no_hook():
  assert during_training.evaluation_hooks(config()) == []


def test_the_command_line_takes_rows(manifest):
  argv = [
    f"--config={ROOT}/configs/fila_toy.py",
    f"--config.evals=(('{manifest}',500,200),('{manifest}',9,0,'~/media'))",
    "--config.best=-eval/held_out/loss",
  ]
  read, _ = config_flags.read_config(argv)
  assert read.evals[0] == (manifest, 500, 200)
  assert read.evals[1][3] == str(pathlib.Path("~/media").expanduser())
  assert read.best == "-eval/held_out/loss"


def test_show_names_the_evaluations(manifest, capsys):
  argv = [
    f"--config={ROOT}/configs/fila_toy.py",
    f"--config.evals=(('{manifest}',500,200),)",
    "--config.best=eval/held_out/accuracy",
  ]
  assert show.main(argv) == 0
  text = capsys.readouterr().out
  assert "eval/held_out: every 500 steps and at the end, the first 200 questions" in text
  assert "the checkpoint with the highest eval/held_out/accuracy stays" in text


def test_a_column_of_too_many_groups_stays_in_the_result():
  groups = {f"v{n}": dict(accuracy=0.5) for n in range(scores.GROUPS + 1)}
  few = dict(short=dict(accuracy=1.0))
  by = dict(video=groups, duration=few)
  counts = dict(questions=9, skipped=0, unparsed=0, degenerate=0)
  result = dict(scores=dict(accuracy=0.5), by=by, **counts)
  names = scores.named_scores("x", result, {"": float("nan")})
  assert [name for name in names if "by_" in name] == ["eval/x/by_duration/short"]
  assert "eval/x/loss" not in names
