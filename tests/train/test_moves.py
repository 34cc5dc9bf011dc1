# SPDX-License-Identifier: Apache-2.0
"""A run goes on on other devices: the same rows, and losses that rounding alone tells apart."""

import json
import shutil

import jax
import numpy as np
import pytest

from filax.testing import row_source
from filax.train import loop

pytestmark = pytest.mark.slow

STEPS, EVERY = 10, 3
MESHES = {  # Devices -> the mesh of a run on them.
  8: dict(data=2, fsdp=2, seq=2, tensor=1),
  4: dict(data=1, fsdp=4, seq=1, tensor=1),
  2: dict(data=1, fsdp=1, seq=2, tensor=1),
  1: dict(data=1, fsdp=1, seq=1, tensor=1),
}


class Seen(row_source.RandomRows):
  """Remembers which rows were asked for first."""

  def batches(self, start, *others):
    self.start = start
    return super().batches(start, *others)


def run(folder, devices):
  config = row_source.tiny_train_config(steps=STEPS, checkpoint_every=EVERY, keep=0, log_every=1)
  with config.unlocked():
    config.mesh = MESHES[devices]
  rows = Seen(8)
  loop.train_pipeline(config, folder, rows, devices=jax.devices()[:devices])
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return rows.start, {r["step"]: r["loss"] for r in map(json.loads, lines)}


def continued(source, step, folder, devices):
  """(first row, losses after `step`) of a run that goes on from a checkpoint of another."""
  (folder / "checkpoints").mkdir(parents=True)
  shutil.copytree(source / "checkpoints" / str(step), folder / "checkpoints" / str(step))
  start, losses = run(folder, devices)
  return start, [loss for n, loss in sorted(losses.items()) if n > step]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """(folder, losses) of a run on eight devices that nothing disturbed."""
  folder = tmp_path_factory.mktemp("whole")
  return folder, run(folder, 8)[1]


@pytest.fixture(scope="module")
def on_one(whole, tmp_path_factory):
  folder = tmp_path_factory.mktemp("one")
  return folder, continued(whole[0], EVERY, folder, 1)


def close(losses, expected):
  np.testing.assert_allclose(losses[0], expected[0], rtol=1e-6)
  np.testing.assert_allclose(losses[1:6], expected[1:6], rtol=1e-5)


@pytest.mark.parametrize("devices", [4, 2])
def test_from_eight_devices_to_fewer(whole, devices, tmp_path):
  folder, expected = whole
  start, losses = continued(folder, EVERY, tmp_path, devices)
  assert start == 8 * EVERY and len(losses) == STEPS - EVERY
  close(losses, [expected[n] for n in range(EVERY + 1, STEPS + 1)])


def test_to_one_device_and_back(whole, on_one, tmp_path):
  _, expected = whole
  folder, (start, losses) = on_one
  assert start == 8 * EVERY
  close(losses, [expected[n] for n in range(EVERY + 1, STEPS + 1)])
  start, again = continued(folder, 2 * EVERY, tmp_path, 8)
  assert start == 16 * EVERY
  close(again, losses[EVERY:])
