# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are read while their run goes on and removes older ones."""

import shutil

import jax
import jax.numpy as jnp
import pytest

from filax.checkpoint import coded, orbax_items, step_arrays, store
from filax.checkpoint.tree import flatten_tree
from filax.models import lora, quantised


def save(folder, step):
  value = float(step)
  params = {"bias": jnp.full(3, value), "dense": {"kernel": jnp.full((2, 4, 8), value)}}
  state = {"params": {"llm": params}}
  with orbax_items.checkpoint_manager(folder / "checkpoints") as manager:
    items = orbax_items.checkpoint_items(state, step, step, "", {"batch": 1})
    manager.save(step, args=items, force=True)


def test_a_step_that_is_removed_while_it_is_read_gives_way_to_the_next(
  tmp_path, monkeypatch, capsys
):
  """With config.keep=1 the newest step vanishes as soon as there is another."""
  save(tmp_path, 1)
  read = step_arrays.open_params

  def read_slowly(step):
    if step.name == "1":
      save(tmp_path, 2)
      shutil.rmtree(step)
    return read(step)

  monkeypatch.setattr(step_arrays, "open_params", read_slowly)
  params, _, _ = store.restore_params(tmp_path)
  assert flatten_tree(params)["llm/bias"][0] == 2
  assert "Skipping" not in capsys.readouterr().err


def test_quantised_kernels_all_come_from_one_step(tmp_path, monkeypatch):
  """A kernel is read at a time; the run saves a newer step after the first."""
  pytest.importorskip("qwix")
  save(tmp_path, 1)
  kernel = lora.DenseKernel(shape=(2, 4, 8), inputs=1, stacked=True)
  shapes = {"llm/bias": jax.ShapeDtypeStruct((3,), "float32")}
  for name, shape in quantised.code_shapes(kernel, "int8").items():
    shapes[f"llm/dense/{name}"] = shape
  read = step_arrays.open_params

  def read_before_the_next_save(step):
    params = read(step)
    if not (tmp_path / "checkpoints/2").exists():
      save(tmp_path, 2)
    return params

  monkeypatch.setattr(step_arrays, "open_params", read_before_the_next_save)
  path = "llm/dense/kernel"
  leaves, missing, extra = coded.read_coded(tmp_path, shapes, {path: kernel}, "int8")
  assert not missing
  assert not extra
  scale = float(leaves["llm/dense/kernel_scales"].max()) * 127
  assert scale == pytest.approx(float(leaves["llm/bias"][0]), rel=0.02)


def test_a_folder_without_a_readable_step_is_still_refused(tmp_path):
  save(tmp_path, 1)
  (tmp_path / "checkpoints/1/data/metadata").write_text("{")
  with pytest.raises(FileNotFoundError, match="No readable checkpoint"):
    store.restore_params(tmp_path)
