# SPDX-License-Identifier: Apache-2.0
"""The best checkpoint by a score stays beside the newest ones, whatever happens between them."""

import errno
import json
import pathlib
import threading

import jax.numpy as jnp
import pytest

from filax.checkpoint import best, run_folder, storage, store
from filax.train.state import TrainState

METRIC = "eval/held_out/accuracy"


def state(step):
  return TrainState(jnp.int32(step), {"kernel": jnp.arange(6.0) + step}, {}, jnp.uint32([1, 2]))


def save(checkpoints, step, score=None):
  """Saves a step; its score comes while the checkpoint is still being written."""
  checkpoints.save(state(step), step, "plan", {"batch": 1})
  if score is not None:
    checkpoints.offer_best(step, {METRIC: score})


def steps(folder):
  return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def named(folder):
  return best.read_best(folder / best.FILE).step


def test_the_best_stays_beside_the_newest(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    for step, score in enumerate([0.2, 0.8, 0.5, 0.8, 0.1], 1):
      save(checkpoints, step, score)
  assert steps(tmp_path) == [2, 5]
  record = json.loads((tmp_path / "best.json").read_text())
  assert record == dict(step=2, metric=METRIC, direction="max", value=0.8)


def test_with_a_minus_the_least_is_best(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=f"-{METRIC}") as checkpoints:
    for step, score in enumerate([3.0, 1.0, 1.0, 2.0], 1):
      save(checkpoints, step, score)
  assert steps(tmp_path) == [2, 4] and named(tmp_path) == 2


def test_without_a_metric_only_the_newest_stay(tmp_path):
  with store.Checkpoints(tmp_path, 2) as checkpoints:
    for step in (1, 2, 3):
      save(checkpoints, step)
  assert steps(tmp_path) == [2, 3] and not (tmp_path / "best.json").exists()


def test_keep_0_keeps_all(tmp_path):
  with store.Checkpoints(tmp_path, 0, best_metric=METRIC) as checkpoints:
    for step in (1, 2, 3):
      save(checkpoints, step, 1.0 / step)
  assert steps(tmp_path) == [1, 2, 3] and named(tmp_path) == 1


def test_a_score_that_is_no_number_is_never_best(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    assert not checkpoints.offer_best(1, {METRIC: float("nan")})
    assert not checkpoints.offer_best(1, {"eval/held_out/loss": 1.0})


def test_it_stays_over_restarts_also_without_config_best(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.9)
  with store.Checkpoints(tmp_path, 1) as checkpoints:
    save(checkpoints, 2)
    save(checkpoints, 3)
  assert steps(tmp_path) == [1, 3]


def test_a_better_step_whose_save_fails_replaces_none(tmp_path):
  """The disk is full when the save in the background would get its final name."""
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.5)

  def check():
    if threading.current_thread() is not threading.main_thread():
      raise OSError(errno.ENOSPC, "No space left on device")

  checkpoints = store.Checkpoints(tmp_path, 1, check, best_metric=METRIC)
  save(checkpoints, 2, 0.9)
  with pytest.raises(storage.SaveFailed, match="No space left"):
    checkpoints.wait()
  assert steps(tmp_path) == [1] and named(tmp_path) == 1


def test_a_score_before_its_checkpoint_is_complete_names_the_one_before(tmp_path):
  """A crash at this point leaves a file that names a whole checkpoint."""
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.5)
    checkpoints.wait()
    assert checkpoints.offer_best(2, {METRIC: 0.9})
    assert named(tmp_path) == 1
    checkpoints.save(state(2), 2, "plan", {})
    checkpoints.wait()
    assert named(tmp_path) == 2


def test_a_step_that_waits_for_its_checkpoint_gives_way_to_a_better_one_alone(tmp_path):
  kept = best.BestCheckpoint(tmp_path, METRIC)
  kept.start([1])
  assert kept.offer(1, {METRIC: 0.5})
  assert kept.offer(2, {METRIC: 0.9})
  assert [kept.protects(step) for step in (1, 2, 3)] == [True, True, False]
  assert not kept.offer(3, {METRIC: 0.7})
  kept.note_written(3)
  assert named(tmp_path) == 1
  kept.note_written(2)
  assert named(tmp_path) == 2


def test_after_a_crash_the_scores_on_record_name_the_best(tmp_path):
  """Checkpoint 2 was complete, best.json still of step 1; step 9 was scored and never saved."""
  with store.Checkpoints(tmp_path, 0, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.5)
    save(checkpoints, 2)
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    checkpoints.recover_best(lambda: {1: {METRIC: 0.5}, 2: {METRIC: 0.7}, 9: {METRIC: 1.0}})
    assert checkpoints.best.step == 2


def test_a_best_checkpoint_that_is_gone_is_no_longer_named(tmp_path, capsys):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.5)
  (tmp_path / "checkpoints" / "1").rename(tmp_path / "checkpoints" / "1.damaged")
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    checkpoints.recover_best(dict)
    assert checkpoints.best is None
  assert not (tmp_path / "best.json").exists()
  assert "the checkpoint of step 1 is gone" in capsys.readouterr().err


def test_another_metric_begins_anew_and_loses_nothing_before(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.9)
  with store.Checkpoints(tmp_path, 1, best_metric="-eval/held_out/loss") as checkpoints:
    checkpoints.recover_best(lambda: {1: {METRIC: 0.9}})
    save(checkpoints, 2)
    checkpoints.wait()
    assert steps(tmp_path) == [1, 2]
    checkpoints.offer_best(2, {"eval/held_out/loss": 4.0})
    save(checkpoints, 3)
  assert steps(tmp_path) == [2, 3] and named(tmp_path) == 2


def test_a_damaged_file_is_found_again_from_the_scores(tmp_path, capsys):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.9)
  (tmp_path / "best.json").write_text("{")
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    checkpoints.recover_best(lambda: {1: {METRIC: 0.9}})
  assert named(tmp_path) == 1 and "is damaged" in capsys.readouterr().err


def test_run_best_stands_for_its_step(tmp_path):
  with store.Checkpoints(tmp_path, 1, best_metric=METRIC) as checkpoints:
    save(checkpoints, 1, 0.9)
    save(checkpoints, 2, 0.1)
  assert run_folder.step_folders(tmp_path / "best") == [tmp_path / "checkpoints" / "1"]
  params, _, _ = store.restore_params(tmp_path / "best")
  assert params["kernel"][0] == 1


def test_run_best_without_a_best_is_one_sentence(tmp_path):
  with pytest.raises(FileNotFoundError, match="No readable checkpoint"):
    store.restore_params(tmp_path / "best")
  assert run_folder.step_folders(pathlib.Path(tmp_path / "best")) == []
