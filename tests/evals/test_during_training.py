# SPDX-License-Identifier: Apache-2.0
"""Evaluation while training: it changes nothing, is what `filax evals` says, and may fail."""

import json
import math
import os
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import pytest
import small_benchmark

from data_pipelines.synthesis import toy
import filax
from filax.configs import fila_toy
from filax.evals import during_training
from filax.models.components import build_video_lm
from filax.train import hooks, loop, run, step

pytestmark = pytest.mark.slow

BEST = "-eval/held_out/loss"
LOSSES = ("loss", "grad_norm", "accuracy")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """A corpus with held_out.json: its first conversations, each of a kind."""
  folder = tmp_path_factory.mktemp("corpus")
  toy.tiny_corpus(folder)
  records = json.loads((folder / "manifest.json").read_text())[:3]
  for number, record in enumerate(records):
    record["kind"] = ("even", "odd")[number % 2]
  (folder / "held_out.json").write_text(json.dumps(records))
  small_benchmark.write(folder / "small")
  return folder


def run_config(corpus, **changes):
  manifest = corpus / "held_out.json"
  defaults = {
    "data.train": ((str(corpus / "manifest.json"), "all"),),
    "data.tokenizer": str(corpus / "tokenizer.model"),
    "data.cache": "",
    "infer.max_new_tokens": 4,
    "infer.selector.steps": 5,
    "debug_corpus": "",
    "checkpoint_every": 100,
    "keep": 1,
    "evals": (
      (str(manifest), 2, 5),
      ("small_benchmark:small", 4, 2, str(corpus / "small"), "official"),
    ),
    "best": BEST,
    "evals_batch": 2,
  }
  config = fila_toy.get_config("stage=2,debug")
  config.update_from_flattened_dict(defaults | changes)
  return config.lock()


def train(folder, config, *more):
  pipeline = run.open_data(config, str(folder))
  all_hooks = (*more, *during_training.evaluation_hooks(config))
  devices = jax.devices()[:2]
  return loop.train_pipeline(config, folder, pipeline, devices=devices, hooks=all_hooks)


def records(folder):
  return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
  return [[record[key] for key in LOSSES] for record in records(folder) if "loss" in record]


def scores(folder):
  return {record["step"]: record for record in records(folder) if "loss" not in record}


@pytest.fixture(scope="module")
def evaluated(corpus, tmp_path_factory):
  """The folder of a run of four steps that is evaluated after the second and the fourth."""
  folder = tmp_path_factory.mktemp("evaluated")
  train(folder, run_config(corpus))
  return folder


def test_losses_are_those_without_evaluation(corpus, evaluated, tmp_path):
  train(tmp_path, run_config(corpus, evals=(), best=""))
  assert losses(evaluated) == losses(tmp_path)


def test_a_signal_amid_an_evaluation_changes_nothing(corpus, evaluated, tmp_path, monkeypatch):
  """It comes while the first evaluation decodes and compiles; the next start asks again."""
  ask = during_training.answer_questions

  def ask_until_a_signal(*arguments):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return ask(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(during_training, "answer_questions", ask_until_a_signal)
    assert train(tmp_path, run_config(corpus))["stopped"]
  assert not scores(tmp_path)
  train(tmp_path, run_config(corpus))
  assert losses(tmp_path) == losses(evaluated)
  assert sorted(scores(tmp_path)) == [2, 4]
  assert scores(tmp_path)[2]["eval/held_out/loss"] == scores(evaluated)[2]["eval/held_out/loss"]


def test_scores_are_in_metrics_jsonl(evaluated):
  table = scores(evaluated)
  assert sorted(table) == [2, 4]
  assert {
    "eval/held_out/accuracy",
    "eval/held_out/by_kind/even",
    "eval/held_out/loss",
    "eval/held_out/loss/odd",
    "eval/held_out/skipped",
  } <= table[2].keys()
  assert table[2]["eval/held_out/questions"] == 5


def test_a_benchmark_has_the_averages_of_its_protocol(evaluated):
  """It is asked after step 4 alone, and has no loss."""
  table = scores(evaluated)[4]
  assert {"eval/small/accuracy", "eval/small/macro", "eval/small/by_task/shape"} <= table.keys()
  assert table["eval/small/questions"] == 2 and "eval/small/loss" not in table
  assert "eval/small/accuracy" not in scores(evaluated)[2]
  result = json.loads((evaluated / "evals" / "4" / "small" / "result.json").read_text())
  assert result["protocol"] == "official" and not result["comparable"]


def test_answers_and_results_are_written(evaluated):
  folder = evaluated / "evals" / "4" / "held_out"
  result = json.loads((folder / "result.json").read_text())
  rows = list(map(json.loads, (folder / "answers.jsonl").read_text().splitlines()))
  assert result["questions"] == len(rows) == 5 and "answers" not in result
  assert result["loss"] == scores(evaluated)[4]["eval/held_out/loss"]
  assert result["loss_by_kind"].keys() == {"even", "odd"}


def test_answers_are_those_of_the_checkpoint(corpus, evaluated):
  session = filax.load(evaluated / "checkpoints" / "4")
  report = filax.evaluate(session, corpus / "held_out.json", limit=5, batch=2, progress=False)
  text = (evaluated / "evals" / "4" / "held_out" / "answers.jsonl").read_text()
  rows = map(json.loads, text.splitlines())
  assert [row["answer"] for row in rows] == [row["answer"] for row in report["answers"]]


def test_the_loss_is_that_of_training(corpus, evaluated):
  """All conversations of the manifest in one batch, by the loss of a step."""
  config = run_config(corpus, **{"data.train": ((str(corpus / "held_out.json"), "all"),)}, batch=3)
  session = filax.load(evaluated / "checkpoints" / "4")
  pipeline = run.open_data(config, str(evaluated))
  with pipeline.batches() as stream:
    batch = jax.tree.map(jnp.asarray, next(stream))
  loss = jax.jit(step.make_loss(build_video_lm(config.model), "token_mean", 8))
  total, sums = loss(session.params, batch, jax.random.key(0))
  expected = float(total / sums["count"])
  assert math.isclose(scores(evaluated)[4]["eval/held_out/loss"], expected, rel_tol=1e-5)


def test_the_best_step_is_saved_and_named(evaluated):
  """keep is 1 and no checkpoint was due: both were saved because they were the best."""
  table = {number: record["eval/held_out/loss"] for number, record in scores(evaluated).items()}
  best = json.loads((evaluated / "best.json").read_text())
  assert best["step"] == min(table, key=table.get)
  assert (evaluated / "checkpoints" / str(best["step"])).exists()


class Killed(hooks.Hook):
  """Ends the run when step 2 would be evaluated, as kill -9 after its checkpoint does."""

  def wants_state(self, number):
    return number == 2

  def evaluate(self, number, state):
    raise RuntimeError("killed")


def test_an_evaluation_that_was_cut_off_is_done_at_the_next_start(corpus, evaluated, tmp_path):
  config = run_config(corpus, checkpoint_every=2)
  with pytest.raises(RuntimeError, match="killed"):
    train(tmp_path, config, Killed())
  assert not scores(tmp_path)
  train(tmp_path, config)
  assert scores(tmp_path) == scores(evaluated)
  assert (tmp_path / "best.json").read_text() == (evaluated / "best.json").read_text()


def test_results_of_steps_that_are_repeated_go(corpus, evaluated, tmp_path):
  """The run was killed after the evaluation of step 4 and before its checkpoint."""
  shutil.copytree(evaluated, tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
  left_over = tmp_path / "run" / "evals" / "4" / "held_out" / "other.txt"
  left_over.write_text("of the first time")
  train(tmp_path / "run", run_config(corpus))
  assert scores(tmp_path / "run") == scores(evaluated) and not left_over.exists()


class Removes(hooks.Hook):
  """Removes a file after the first step."""

  def __init__(self, path):
    self._path = path

  def step(self, number, metrics):
    if number == 1:
      self._path.unlink()


@pytest.fixture
def own_corpus(corpus, tmp_path):
  return shutil.copytree(corpus, tmp_path / "corpus")


def test_a_manifest_that_vanishes_does_not_end_training(own_corpus, evaluated, tmp_path, capsys):
  summary = train(tmp_path, run_config(own_corpus, steps=2), Removes(own_corpus / "held_out.json"))
  assert summary["steps"] == 2
  assert scores(tmp_path)[2]["eval/failed"] == 1
  assert scores(tmp_path)[2]["eval/held_out/loss"] > 0, "its rows are planned already"
  said = capsys.readouterr().err
  assert "The evaluation held_out after step 2 failed, training goes on:" in said
  assert "There is no manifest" in said


def test_a_video_that_vanishes_is_counted(own_corpus, tmp_path):
  video = own_corpus / json.loads((own_corpus / "held_out.json").read_text())[0]["video"]
  train(tmp_path, run_config(own_corpus, steps=2), Removes(video))
  table = scores(tmp_path)[2]
  assert table["eval/held_out/skipped"] == 4 and table["eval/held_out/questions"] == 1
  assert "eval/failed" not in table
