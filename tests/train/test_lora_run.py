# SPDX-License-Identifier: Apache-2.0
"""Runs with adapters: what moves, what is saved, what they need of their base."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from compile_flags import QUICK
import jax
import numpy as np
import pytest

from filax.checkpoint import base, parameter_reader, store
from filax.checkpoint.tree import flatten_tree
from filax.models import components, lora
from filax.testing import row_source
from filax.train import loop

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
ADAPTERS = {
  "optim.rates": (("lora_[ab]$", 1e-3), ("", 0.0)),
  "lora.ranks": (("^llm/", 4), ("^(projector|encoder)/", 2)),
}
ONE_DEVICE = dict(devices=jax.devices()[:1])


def config(folder, **changes):
  settings = dict(init_from=str(folder)) | ADAPTERS | changes
  return row_source.tiny_train_config(batch=2, **settings)


def full_config(**changes):
  """Four steps of a model that is trained in full, of which each is saved."""
  settings = dict(steps=4, keep=0, checkpoint_every=1) | changes
  return row_source.tiny_train_config(batch=2, **settings)


def train(config, folder, **options):
  rows = row_source.RandomRows(2)
  return loop.train_pipeline(config, folder, rows, **(ONE_DEVICE | options))


def stored(folder, step):
  """Path -> shape of the parameters that a step stores itself."""
  return set(parameter_reader.ParameterReader(folder / "checkpoints" / str(step)).stored)


def losses(folder):
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A base: the first step of a model that is trained in full."""
  folder = tmp_path_factory.mktemp("base")
  train(full_config(), folder)
  for step in (2, 3, 4):
    shutil.rmtree(folder / "checkpoints" / str(step))
  return folder


@pytest.fixture(scope="module")
def adapted(whole, tmp_path_factory):
  """Four steps of adapters, a checkpoint after the second."""
  folder = tmp_path_factory.mktemp("adapted")
  train(config(whole, steps=4), folder)
  return folder


def test_every_adapted_kernel_has_moved(adapted):
  """All kernels of llm, encoder and projector: none is left out without a word."""
  reader = parameter_reader.ParameterReader(adapted / "checkpoints" / "2")
  kernels = components.dense_kernels(
    components.build_video_lm(row_source.tiny_train_config().model)
  )
  assert set(reader.adapted) == set(kernels) and len(kernels) == 16
  for path in reader.adapted:
    a, b, scale = reader.adapters(path)
    layers = b.reshape(len(b) if kernels[path].stacked else 1, -1)
    assert (abs(layers).max(1) > 0).all(), path
    assert abs(a).max() > 0 and scale.max() == 16 / b.shape[1 if kernels[path].stacked else 0]


def test_a_checkpoint_holds_adapters_alone(adapted, whole):
  assert all(map(lora.is_adapter, stored(adapted, 4)))
  state = store.newest_step(adapted)
  written = json.loads((state / "data" / "metadata").read_text())
  assert written["base"] == base.refer(store.newest_step(whole)).as_record()
  moments = [name for name in written["digests"] if "/mu/" in name or "/nu/" in name]
  assert moments and all("_lora_" in name for name in moments)


def test_answering_merges_them(adapted, whole):
  before, _, _ = store.restore_params(whole)
  after, missing, extra = store.restore_params(adapted)
  assert missing == extra == []
  before = flatten_tree(before)
  after = flatten_tree(after)
  assert before.keys() == after.keys()
  reader = parameter_reader.ParameterReader(adapted / "checkpoints" / "4")
  for path, x in after.items():
    if path in reader.adapted:
      merged = lora.merge_kernel(np.asarray(before[path]), *reader.adapters(path))
      np.testing.assert_allclose(x, merged, atol=1e-6)
      np.testing.assert_allclose(reader.whole(path), merged, atol=1e-6)
      assert (np.asarray(x) != before[path]).any()
    else:
      np.testing.assert_array_equal(x, before[path])


def test_a_resumed_run_is_the_same_bit_for_bit(adapted, whole, tmp_path):
  train(config(whole, steps=4), tmp_path)
  shutil.rmtree(tmp_path / "checkpoints" / "4")
  train(config(whole, steps=4), tmp_path)
  for step in (2, 4):
    expected = base.checkpoint_hash(adapted / "checkpoints" / str(step))
    assert base.checkpoint_hash(tmp_path / "checkpoints" / str(step)) == expected
  first, _, _ = store.restore_params(adapted)
  second, _, _ = store.restore_params(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert losses(tmp_path) == losses(adapted)


@pytest.mark.long
def test_it_goes_on_on_another_mesh(adapted, whole, tmp_path):
  shutil.copytree(adapted, tmp_path / "run")
  shutil.rmtree(tmp_path / "run/checkpoints/4")
  moved = config(whole, steps=4, **{"mesh.data": 1, "mesh.fsdp": 2, "mesh.seq": 2})
  train(moved, tmp_path / "run", devices=jax.devices()[:4])
  np.testing.assert_allclose(losses(tmp_path / "run"), losses(adapted), rtol=1e-5)


def test_a_quantised_base(whole, tmp_path):
  """Trains, resumes bit for bit, and holds no codes in its checkpoints."""
  pytest.importorskip("qwix")
  quantised = config(whole, steps=4, **{"lora.base": "nf4"})
  train(quantised, tmp_path)
  first = losses(tmp_path)
  assert all(map(lora.is_adapter, stored(tmp_path, 4)))
  shutil.rmtree(tmp_path / "checkpoints" / "4")
  train(quantised, tmp_path)
  assert losses(tmp_path) == first


@pytest.mark.long
def test_what_else_is_trained_is_saved_in_float32(whole, tmp_path):
  """Beside a base in bfloat16, which would round away most updates of a usual rate."""
  rates = (("lora_[ab]$", 1e-3), ("^projector/", 1e-6), ("", 0.0))
  changes = {"optim.rates": rates, "lora.ranks": (("^llm/", 4),), "model.param_dtype": "bfloat16"}
  train(config(whole, steps=1, **changes), tmp_path)
  names = {name for name in stored(tmp_path, 1) if not lora.is_adapter(name)}
  assert names and all(name.startswith("projector/") for name in names)
  after = parameter_reader.ParameterReader(tmp_path / "checkpoints" / "1")
  before = parameter_reader.ParameterReader(store.newest_step(whole))
  for name in (name for name in names if name.endswith("/kernel")):
    assert after.whole(name).dtype == np.float32
    assert (after.whole(name) != before.whole(name)).mean() > 0.9, name


@pytest.mark.long
def test_adapters_of_another_run_go_on(adapted, whole, tmp_path, capsys):
  """They are read as adapters, over the same base."""
  train(config(adapted, steps=1), tmp_path)
  assert "drawn anew" not in capsys.readouterr().err
  params, _, _ = store.restore_params(tmp_path)
  before, _, _ = store.restore_params(adapted)
  moved = jax.tree.map(lambda x, y: float(abs(x - y).max()), params, before)
  assert max(jax.tree.leaves(moved)) < 0.05  # One step from where they stood.


def test_the_base_is_pinned(whole, adapted):
  """The base's own run goes on, and keeps the step that the adapters need."""
  folder = whole.parent / "goes_on"
  shutil.copytree(whole, folder)
  train(full_config(keep=1), folder)
  assert {path.name for path in (folder / "checkpoints").iterdir()} == {"1", "4"}


def test_a_moved_base_is_found_by_name(whole, adapted, tmp_path, monkeypatch):
  monkeypatch.setattr(base, "_MOVED", [])
  shutil.copytree(adapted, tmp_path / "run")
  shutil.copytree(whole, tmp_path / "moved")
  step = tmp_path / "run/checkpoints/4/data/metadata"
  record = json.loads(step.read_text())
  reference = base.BaseReference("/nowhere/checkpoints/1", record["base"]["root"])
  with pytest.raises(ValueError, match=rf"{reference.root}, is not there.*--base FOLDER"):
    reference.locate()
  base.look_in(str(tmp_path / "moved"))
  assert reference.locate() == tmp_path / "moved/checkpoints/1"


def test_another_base_is_refused_with_both_hashes(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "base")
  train(config(tmp_path / "base", steps=4), tmp_path / "run")
  before = base.weights_hash(tmp_path / "base/checkpoints/1")
  shutil.rmtree(tmp_path / "base/checkpoints")
  train(full_config(seed=1), tmp_path / "base")
  for step in (2, 3, 4):
    shutil.rmtree(tmp_path / "base/checkpoints" / str(step))
  after = base.weights_hash(tmp_path / "base/checkpoints/1")
  with pytest.raises(ValueError, match=f"{before}, is not there; .*/1 is {after}"):
    store.restore_params(tmp_path / "run")


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"lora.ranks": (("attention", 4),)}, "'attention' of config.lora.ranks has no effect"),
    ({"lora.ranks": (("^llm/", 999),)}, "the rank 999, above its width"),
    ({"optim.rates": (("", 1e-3),)}, "trains .*/kernel, which config.lora adapts"),
    ({"optim.rates": (("^merger", 1e-3), ("", 0.0))}, "freezes the adapters of"),
    ({"lora.base": "int8", "lora.ranks": ()}, "config.lora.base=int8"),
    (
      {
        "lora.base": "int8",
        "lora.ranks": (("^llm/", 4),),
        "optim.rates": (("lora_[ab]$|^encoder/", 1e-3), ("", 0.0)),
      },
      "trains encoder/.*kernel_codes, but config.lora.base=int8 quantises it",
    ),
    ({"lora.base": "nf4", "init_from": ""}, "quantises the kernels of config.init_from"),
  ],
)
def test_settings_that_do_not_fit(whole, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    train(config(whole, **changes), tmp_path)


def test_alpha_stays(adapted, whole, tmp_path):
  shutil.copytree(adapted, tmp_path / "run")
  with pytest.raises(ValueError, match=r"config\.lora\.alpha=8.*trained with 16"):
    train(config(whole, steps=5, **{"lora.alpha": 8.0}), tmp_path / "run")


@pytest.mark.long
def test_a_killed_run_goes_on(adapted, whole, tmp_path):
  """`filax train` in a process of its own, killed between two checkpoints."""
  command = [
    *(sys.executable, "tests/train/made_run.py", "slow:1"),
    *("--config", "tests/train/made_run.py", "--workdir", str(tmp_path / "run")),
    *(f"--config.init_from={whole}", "--config.steps=4", "--config.checkpoint_every=1"),
    *(f"--config.{key}={value}" for key, value in ADAPTERS.items()),
  ]
  environment = os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=QUICK, PYTHONPATH=str(ROOT))
  process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
  while not (tmp_path / "run/checkpoints/2").exists():
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  command[2] = "plain"
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "Resuming at step" in done.stderr
  assert losses(tmp_path / "run") == losses(adapted)


def test_a_damaged_base_is_blamed_itself(adapted, whole, tmp_path, monkeypatch):
  monkeypatch.setattr(base, "_MOVED", [])
  shutil.copytree(whole, tmp_path / "base")
  train(config(tmp_path / "base", steps=4), tmp_path / "run")
  # A file holds parameters beside moments of the optimizer, in an order that differs from run to
  # run: every 64th byte is changed, so that parameters are hit wherever they lie.
  for file in (tmp_path / "base/checkpoints/1/state").rglob("d/*"):
    content = np.fromfile(file, np.uint8)
    content[::64] ^= 1
    content.tofile(file)
  with pytest.raises(
    ValueError, match=r"The base .*/base/checkpoints/1 of these adapters is damaged"
  ):
    store.restore_params(tmp_path / "run")
