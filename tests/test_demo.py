# SPDX-License-Identifier: Apache-2.0
"""The demo end to end with a handful of videos and steps, and how its figures are judged."""

import json
import os
import pathlib
import subprocess
import sys

from compile_flags import QUICK
import numpy as np
import pytest

from filax.demo import examples, phases, report
from filax.train import run

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
KEYS = {
  "accuracy",
  "accuracy_uniform",
  "accuracy_short_scenes",
  "accuracy_short_uniform",
  "accuracy_hidden_scenes",
  "accuracy_hidden_uniform",
  "accuracy_blind",
  "chance",
  "questions",
  "videos",
  "train_seconds",
  "total_seconds",
  "steps",
  "frames_per_second",
  "checkpoint",
}
GOOD = dict(
  accuracy=0.95,
  accuracy_uniform=0.6,
  accuracy_short_scenes=0.94,
  accuracy_short_uniform=0.2,
  accuracy_hidden_scenes=0.9,
  accuracy_hidden_uniform=0.3,
  accuracy_blind=0.15,
  chance=0.155,
  questions=600,
  videos=64,
  train_seconds=200.0,
  total_seconds=300.0,
  steps=2000,
  frames_per_second=2000.0,
  checkpoint="runs/demo/stage2",
)


def demo(workdir, *options):
  env = {**os.environ, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  command = [sys.executable, "-m", "filax", "demo", "--workdir", str(workdir), *options]
  return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)


SMALL = ("--videos", "3", "--held", "2", "--stage1-steps", "2", "--stage2-steps", "2")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(workdir, what the first call printed)"""
  workdir = tmp_path_factory.mktemp("demo") / "run"
  first = demo(workdir, *SMALL)
  assert first.returncode == 0, f"{first.stdout}\n{first.stderr}"
  return workdir, first.stdout


def test_report_has_the_keys(done):
  workdir, printed = done
  found = json.loads((workdir / "report.json").read_text())
  assert set(found) == KEYS
  assert found["videos"] == 2 and found["steps"] == 4
  records = json.loads((workdir / "corpus/held_out.json").read_text())
  assert found["questions"] == len(records)
  assert 0 < found["train_seconds"] < found["total_seconds"]
  assert found["frames_per_second"] > 0
  assert (pathlib.Path(found["checkpoint"]) / "checkpoints/2").is_dir()
  assert json.loads(printed[printed.index("\n{") :]) == found


def test_page_stands_alone(done):
  page = (done[0] / "report.html").read_text()
  assert page.count("data:image/png;base64,") > 10
  assert "http:" not in page and "https:" not in page and "<script" not in page
  assert "prefers-color-scheme: dark" in page
  for part in (
    "Which frames the model sees",
    "up to 1,000 frames",
    "Sample answers",
    "shape/short",
    "Training",
  ):
    assert part in page


def test_same_command_skips_what_is_done(done):
  workdir, _ = done
  before = (workdir / "report.json").read_text()
  again = demo(workdir, *SMALL)
  assert again.returncode == 0
  assert again.stdout.count("done before") == 6
  assert (workdir / "report.json").read_text() == before


def test_other_settings_need_another_folder(done):
  other = demo(done[0], *SMALL, "--seed", "1")
  assert other.returncode == 2
  assert "Choose another --workdir" in other.stderr and "Traceback" not in other.stderr


def configs_of_demo(workdir, seed, monkeypatch):
  """The configs of both stages of a demo whose training is left out."""
  configs = []

  def train(config, folder, signals):
    configs.append(config)
    return dict(stopped=len(configs) == 2)

  monkeypatch.setattr("filax.training.run_training", train)
  with pytest.raises(ValueError, match="Stage 2 was stopped"):
    phases.run_demo(workdir, phases.DemoSettings(videos=2, held=1, seed=seed))
  return configs


def test_the_seed_reaches_corpus_rows_and_training(tmp_path, monkeypatch):
  rows = []
  for seed in (0, 1):
    for config in configs_of_demo(tmp_path / str(seed), seed, monkeypatch):
      assert config.seed == seed
    config.data.train = ((str(tmp_path / "0/corpus/stage1.json"), "all"),)
    plan = run.open_data(config, str(tmp_path)).plan
    rows.append([plan.row(number) for number in range(4)])
  assert rows[0] != rows[1]
  for name in ("stage1.json", "stage2.json", "held_out.json", "videos/held_out-000.mp4"):
    first, second = ((tmp_path / seed / "corpus" / name).read_bytes() for seed in "01")
    assert first != second, f"Both seeds make the same {name}."


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"done": []}', b"\xff" * 40])
def test_damaged_progress_is_named(content, tmp_path):
  path = tmp_path / "progress.json"
  phases.DemoProgress(tmp_path, phases.DemoSettings()).count_seconds("start", 1.0)
  assert phases.DemoProgress(tmp_path, phases.DemoSettings()).seconds == {"start": 1.0}
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f"{path} is damaged. Delete it"):
    phases.DemoProgress(tmp_path, phases.DemoSettings())


def test_untrained_model_misses_the_bars(done):
  checked = demo(done[0], "--check")
  assert checked.returncode == 2
  assert "did not reach its targets: accuracy" in checked.stderr
  assert "2 videos are fewer than 50" in checked.stderr


def check(tmp_path, **changed):
  path = tmp_path / "report.json"
  path.write_text(json.dumps(GOOD | changed))
  return report.check_report(path)


def test_good_figures_pass(tmp_path):
  assert "accuracy 0.950" in check(tmp_path)
  assert check(tmp_path, total_seconds=9e9)  # Times are told, not judged.


@pytest.mark.parametrize(
  "changed, message",
  [
    (dict(accuracy=0.89), "accuracy 0.890 is below"),
    (dict(questions=199), "199 questions"),
    (dict(videos=49), "49 videos"),
    (dict(accuracy_blind=0.26), "not within 0.1 of chance"),
    (dict(accuracy_blind=0.05), "not within 0.1 of chance"),
    (dict(accuracy_short_scenes=0.24), "gains 0.040 over uniform"),
  ],
)
def test_each_bar(tmp_path, changed, message):
  with pytest.raises(ValueError, match=message):
    check(tmp_path, **changed)


def test_check_without_a_report(tmp_path):
  with pytest.raises(ValueError, match=r"Run filax demo --workdir .* first"):
    report.check_report(tmp_path / "report.json")


def answers(*rows):
  return dict(
    accuracy=float(np.mean([score for _, score in rows])),
    questions=len(rows),
    videos=1,
    answers=[dict(id=f"q{i}", kind=kind, score=score) for i, (kind, score) in enumerate(rows)],
  )


def test_numbers(tmp_path):
  scenes = answers(("shape/short", 1.0), ("colour/short", 0.0), ("shape/long", 1.0))
  uniform = answers(("shape/short", 0.0), ("colour/short", 0.0), ("shape/long", 1.0))
  curves = [
    [dict(step=10, seconds_per_step=0.5, frames_per_second=100.0)],
    [dict(step=20, seconds_per_step=0.25, frames_per_second=200.0)],
  ]
  seconds = dict(corpus=5.0, stage1=10.0, stage2=20.0, evals=3.0)
  evals = dict(scenes=scenes, uniform=uniform, blind=uniform)
  hidden = dict(hidden_scenes=scenes, hidden_uniform=uniform)
  found = report.report_numbers(tmp_path, evals, hidden, curves, seconds)
  assert set(found) == KEYS
  assert found["accuracy_short_scenes"] == 0.5 and found["accuracy_short_uniform"] == 0.0
  np.testing.assert_allclose(found["accuracy_hidden_scenes"], 2 / 3)
  np.testing.assert_allclose(found["accuracy_hidden_uniform"], 1 / 3)
  np.testing.assert_allclose(found["chance"], (1 / 6 + 1 / 7 + 1 / 6) / 3)
  assert found["train_seconds"] == 30 and found["total_seconds"] == 38 and found["steps"] == 30
  assert found["frames_per_second"] == 150.0  # 5 s at 100, 5 s at 200.


def test_examples_show_every_outcome(tmp_path):
  manifest = tmp_path / "held_out.json"
  manifest.write_text(json.dumps([dict(id=f"q{i}", video=f"{i // 2}.mp4") for i in range(8)]))

  def score(right):
    return dict(answers=[dict(id=f"q{i}", score=float(i in right)) for i in range(8)])

  evals = dict(scenes=score({0, 1, 2, 4}), uniform=score({4}))
  chosen = examples.choose_records(manifest, evals)
  assert [record["id"] for record in chosen] == ["q0", "q2", "q4", "q6"]
  assert len({record["video"] for record in chosen}) == len(chosen)
