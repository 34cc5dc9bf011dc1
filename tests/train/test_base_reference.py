# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints count as the base of adapters, and which of its values are read."""

import jax.numpy as jnp
import numpy as np
import pytest

from filax.checkpoint import averages, base, orbax_items, parameter_reader, store, streamed
from filax.models import lora

KERNEL = "llm/dense/kernel"
CONFIG = {"model": {"llm": {"name": "qwen2"}}}


def save(folder, value, config=None, **trees):
  """A checkpoint of one parameter."""
  state = {"params": {"llm": {"dense": {"kernel": jnp.full((4, 4), value)}}}, **trees}
  with orbax_items.checkpoint_manager(folder / "checkpoints") as manager:
    manager.save(0, args=orbax_items.checkpoint_items(state, 0, 0, "", config or CONFIG))
  return store.newest_step(folder)


def save_adapters(folder, step):
  """A checkpoint of adapters that add nothing, over a base."""
  writer = streamed.ParameterWriter(folder)
  shapes = {lora.A: (4, 2), lora.B: (2, 4), lora.SCALE: ()}
  for name in lora.NAMES:
    path = lora.adapter_name(KERNEL, name)
    leaf = writer.leaf(path, shapes[name], "float32", False)
    leaf[...] = np.zeros(shapes[name], np.float32)
  writer.finish(CONFIG, base.refer(step))


def test_a_setting_that_a_later_version_adds_leaves_the_base_the_same(tmp_path):
  before = base.refer(save(tmp_path / "before", 1.0))
  later = save(tmp_path / "later", 1.0, CONFIG | {"new_setting": 0})
  assert base.checkpoint_hash(later) != before.root
  assert base.BaseReference(str(later), before.root, before.weights).locate() == later


def test_other_weights_are_another_base(tmp_path):
  before = base.refer(save(tmp_path / "before", 1.0))
  other = save(tmp_path / "other", 2.0)
  reference = base.BaseReference(str(other), before.root, before.weights)
  with pytest.raises(base.BaseMissing, match=f"{before.weights}.* is {base.weights_hash(other)}"):
    reference.locate()


def test_the_hash_of_weights_covers_averages_and_the_bases_below(tmp_path):
  steps = []
  for number, mean in enumerate([3.0, 4.0]):
    average = {"llm": {"dense": {"kernel": jnp.full((4, 4), mean)}}}
    step = save(tmp_path / f"base-{number}", 1.0, average=average)
    save_adapters(tmp_path / f"adapters-{number}", step)
    steps += [step, store.newest_step(tmp_path / f"adapters-{number}")]
  assert len({base.weights_hash(step) for step in steps}) == 4


def test_references_of_earlier_versions_are_read(tmp_path):
  step = save(tmp_path, 1.0)
  entry = {"path": str(step), "root": base.checkpoint_hash(step)}
  assert base.reference_of({"base": entry}).locate() == step


def test_a_base_is_read_by_its_average(tmp_path, monkeypatch):
  """Also with --no-average: the adapters were trained over the average."""
  average = {"llm": {"dense": {"kernel": jnp.full((4, 4), 3.0)}}}
  step = save(tmp_path / "base", 1.0, average=average)
  save_adapters(tmp_path / "adapters", step)
  monkeypatch.setattr(averages, "_LAST_VALUES", {True})
  params, _, _ = store.restore_params(tmp_path / "adapters")
  assert float(params["llm"]["dense"]["kernel"].mean()) == 3.0
  reader = parameter_reader.ParameterReader(store.newest_step(tmp_path / "adapters"))
  assert float(reader.whole(KERNEL).mean()) == 3.0
