# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import signal
import threading
import weakref

import jax
import numpy as np
import pytest

from filax import costs
from filax.checkpoint import store
from filax.testing import row_source
from filax.train import hooks, loop, setup

pytestmark = pytest.mark.slow


def lines(folder):
  return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(folder):
  keys = ("step", "loss", "grad_norm", "accuracy", "lr/all")
  return [{key: record[key] for key in keys} for record in lines(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An uninterrupted run of five steps, and its summary."""
  folder = tmp_path_factory.mktemp("whole")
  config = row_source.tiny_train_config(steps=5, checkpoint_every=100, peak_tflops=1.0)
  return folder, loop.train_pipeline(config, folder, row_source.RandomRows(8), costs.train_costs)


def test_summary_and_files(whole):
  folder, summary = whole
  assert (summary["first_step"], summary["steps"], summary["stopped"]) == (0, 5, False)
  assert summary["frames"] == 5 * 8 * 3 and summary["tokens"] == 5 * 8 * 30
  assert summary["frames_per_second"] > 0 and summary["num_bad"] == 0
  assert summary["checkpoint"] == str(folder / "checkpoints" / "5")
  assert summary["loss"] == lines(folder)[-1]["loss"]
  assert [record["step"] for record in lines(folder)] == [1, 2, 3, 4, 5]
  assert 0 < lines(folder)[-1]["mfu"] < 1
  assert json.loads((folder / "config.json").read_text())["batch"] == 8
  assert store.read_config(folder)["optim"]["loss_chunk"] == 8


def test_nothing_recompiles_after_the_first_step(whole):
  counts = [record["compilations"] for record in lines(whole[0])]
  assert counts == counts[:1] * 5 and whole[1]["compilations"] == counts[0]


def test_resumed_losses_are_equal_bit_for_bit(whole, tmp_path, capsys):
  """Two steps, then the rest; the second call is told the rest of the steps only by the config."""
  stopped = row_source.tiny_train_config(steps=5, checkpoint_every=2)

  def stop(number, made):
    if number == 3 * 8:  # While the fourth batch is fetched, the third step runs.
      os.kill(os.getpid(), signal.SIGTERM)
    return made

  before = signal.getsignal(signal.SIGTERM)
  summary = loop.train_pipeline(stopped, tmp_path, row_source.RandomRows(8, change=stop))
  assert summary["stopped"] and summary["steps"] == 3
  assert signal.getsignal(signal.SIGTERM) == before
  rows = row_source.RandomRows(8)
  summary = loop.train_pipeline(stopped, tmp_path, rows)
  assert (summary["first_step"], summary["steps"], summary["stopped"]) == (3, 5, False)
  assert "Resuming at step 3, row 24" in capsys.readouterr().err
  assert numbers(tmp_path) == numbers(whole[0])
  ours, _, _ = store.restore_params(tmp_path)
  theirs, _, _ = store.restore_params(whole[0])
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_finished_run_does_nothing(whole):
  summary = loop.train_pipeline(
    row_source.tiny_train_config(steps=5, checkpoint_every=100), whole[0], row_source.RandomRows(8)
  )
  assert (summary["first_step"], summary["steps"], summary["frames"]) == (5, 5, 0)
  assert len(lines(whole[0])) == 5


def test_another_plan_is_refused(whole):
  with pytest.raises(ValueError, match=r"row 40 of plan made.*plan other.*ignore_fingerprint=True"):
    loop.train_pipeline(
      row_source.tiny_train_config(steps=5), whole[0], row_source.RandomRows(8, fingerprint="other")
    )
  summary = loop.train_pipeline(
    row_source.tiny_train_config(steps=5, ignore_fingerprint=True),
    whole[0],
    row_source.RandomRows(8, fingerprint="other"),
  )
  assert summary["first_step"] == 5


def test_not_finite_stops_with_the_step_named(tmp_path):
  """The loss of the fourth batch is infinite: steps 1 to 3 are on disk, step 4 never is."""

  def spoil(number, made):
    infinite = np.where(made["loss_mask"] > 0, np.inf, 0).astype("f4")
    return made | {"loss_mask": infinite} if number == 29 else made

  config = row_source.tiny_train_config(steps=5, checkpoint_every=1)
  with pytest.raises(loop.NonFinite, match=r"Step 4: the loss is (inf|nan) .*config\.optim\.rates"):
    loop.train_pipeline(config, tmp_path, row_source.RandomRows(8, change=spoil))
  assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == 3
  assert lines(tmp_path)[-1]["step"] == 3
  params, _, _ = store.restore_params(tmp_path)
  assert all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(params))


def test_bad_samples_are_counted(tmp_path):
  def spoil(number, made):
    return made | {"num_bad": np.int32(number % 2)}

  def train():
    config = row_source.tiny_train_config(steps=5, checkpoint_every=3, keep=0)
    return loop.train_pipeline(config, tmp_path, row_source.RandomRows(8, change=spoil))

  assert train()["num_bad"] == 20
  shutil.rmtree(tmp_path / "checkpoints" / "5")
  assert train()["num_bad"] == 8, "those of this start"
  assert lines(tmp_path)[-1]["num_bad"] == 20, "those of the run"


def test_the_pipeline_is_closed_and_signals_are_given_back(tmp_path):
  rows, before = row_source.RandomRows(8), signal.getsignal(signal.SIGINT)
  loop.train_pipeline(row_source.tiny_train_config(steps=5), tmp_path, rows)
  assert rows.closed and signal.getsignal(signal.SIGINT) is before
  result = []
  thread = threading.Thread(  # Signals belong to the main thread; a run elsewhere works without.
    target=lambda: result.append(
      loop.train_pipeline(
        row_source.tiny_train_config(steps=5), tmp_path, row_source.RandomRows(8)
      )["steps"]
    )
  )
  thread.start()
  thread.join()
  assert result == [5]


class Media(dict):
  """A part of a plan, to which weak references are possible."""


def test_the_facts_of_media_are_let_go_before_the_first_step(tmp_path):
  """With a text for each of ten million media, every process would keep gigabytes."""
  known = []
  held = []

  def ingredients():
    media = Media({"a.mp4": "facts"})
    known.append(weakref.ref(media))
    return {"media": media}

  class Looking(hooks.Hook):
    def begin(self, run):
      held.append(known[0]() is not None)

  config = row_source.tiny_train_config(steps=1)
  rows = row_source.RandomRows(8)
  loop.train_pipeline(config, tmp_path, rows, ingredients=ingredients(), hooks=[Looking()])
  assert held == [False]


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(batch=12), r"config\.batch=12 rows .* multiple of 8"),
    ({"optim.accumulate": 3}, r"config\.optim\.accumulate=3 .* multiple of 24"),
    ({"optim.rates": (("^vision/", 1.0), ("", 1.0))}, r"'\^vision/' of config\.optim\.rates"),
    ({"model.llm.variant": "8B"}, r"config\.model\.llm\.variant"),
    ({"mesh.data": 3}, r"config\.mesh"),
    (dict(checkpoint_every=0), r"config\.checkpoint_every=0 .* 1 or more"),
  ],
)
def test_configs_that_cannot_be(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    loop.train_pipeline(row_source.tiny_train_config(**changes), tmp_path, row_source.RandomRows(8))


def test_steps_come_from_epochs():
  config = row_source.tiny_train_config(steps=0, epochs=2).to_dict()
  assert setup.prepare(config, row_source.RandomRows(8).steps(config["epochs"])).optimizer.rates


def test_saves_may_copy_from_the_devices(tmp_path, monkeypatch):
  """Steps may not, so that none waits for the host; a CPU would not show that a save may not."""
  save = store.Checkpoints.save
  guards = []

  def recorded_save(*args):
    guards.append(jax.config.jax_transfer_guard_device_to_host)
    save(*args)

  monkeypatch.setattr(store.Checkpoints, "save", recorded_save)
  config = row_source.tiny_train_config(steps=2, checkpoint_every=1)
  loop.train_pipeline(config, tmp_path, row_source.RandomRows(8))
  assert guards == ["allow", "allow"]
