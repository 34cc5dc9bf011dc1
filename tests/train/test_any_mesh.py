# SPDX-License-Identifier: Apache-2.0
"""The same rows on any mesh: the losses, gradients and parameters of one device, and no leak."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from filax.models.components import dims_table
from filax.parallel import mesh, rules
from filax.parallel.rules import leaf_path
from filax.testing import packed_rows
from filax.train import batches, optim, step

pytestmark = pytest.mark.slow

MESHES = {
  "data 8": dict(data=8),
  "fsdp 8": dict(fsdp=8),
  "seq 8": dict(seq=8),
  "tensor 2": dict(fsdp=2, seq=2, tensor=2),
  "2 x 2 x 2": dict(data=2, fsdp=2, seq=2),
}
CONFIGS = {"fila": packed_rows.FILA, "flash": packed_rows.FLASH | dict(encode_chunk=2)}
RUNS = [
  *(("fila", where) for where in MESHES),
  *(("flash", where) for where in ("seq 8", "tensor 2", "2 x 2 x 2")),  # Every axis is split.
]
ON_ONE_DEVICE = [(name, "one device") for name in CONFIGS]
RATE, STEPS = 0.05, 3


@functools.cache
def made(name: str):
  """(model, its parameters, a packed batch) of a config."""
  model, params = packed_rows.tiny_model(CONFIGS[name])
  return model, params, packed_rows.packed_batch(model.layout(), packed_rows.sample_rows(8))


def laid(config, params, sizes):
  """(mesh or None, the parameters as they lie on it)."""
  if sizes is None:
    return None, jax.device_put(params, jax.devices()[0])
  layout = mesh.make_mesh(dict(data=1, fsdp=1, seq=1, tensor=1) | sizes)
  return layout, jax.device_put(
    params, rules.parameter_shardings(dims_table(config), params, layout)
  )


def gradient(model, learnt):
  """A step of SGD on the mean loss, for all but the encoder, which is frozen: (parameters, frozen,
  batch) -> (loss, gradient, parameters). Parameters lie as those given, so it compiles once."""
  loss = step.make_loss(model, "token_mean", chunk=32)

  def mean(learnt, frozen, batch):
    total, sums = loss(optim.merge_params(learnt, frozen), batch, jax.random.key(0))
    return total / sums["count"]

  @functools.partial(
    jax.jit, out_shardings=(None, None, jax.tree.map(lambda x: x.sharding, learnt))
  )
  def run(learnt, frozen, batch):
    loss, slope = jax.value_and_grad(mean)(learnt, frozen, batch)
    return loss, slope, jax.tree.map(lambda p, g: p - RATE * g, learnt, slope)

  return run


@functools.cache
def trained(name: str, where: str):
  """Losses of SGD, the first gradient, the parameters after SGD, and after AdamW."""
  model, params, batch = made(name)
  layout, params = laid(CONFIGS[name], params, MESHES.get(where))
  frozen = {"encoder": params.pop("encoder")}
  with jax.set_mesh(layout) if layout else jax.default_device(jax.devices()[0]):
    batch = batches.place_batch(batch, layout) if layout else batch
    run, losses, slopes = gradient(model, params), [], []
    for _ in range(STEPS):
      loss, slope, params = run(params, frozen, batch)
      losses.append(float(loss))
      slopes.append(jax.device_get(slope))
  return losses, slopes[0], jax.device_get(params), jax.device_get(adamw(slopes))


@jax.jit
def adamw(slopes):
  """What AdamW adds to parameters over these gradients."""
  optimizer, params = optax.adamw(1e-3), jax.tree.map(jnp.zeros_like, slopes[0])
  state = optimizer.init(params)
  for slope in slopes:
    updates, state = optimizer.update(slope, state, params)
    params = optax.apply_updates(params, updates)
  return params


def apart(have, want, floor=0.0):
  """path -> how far a leaf is from what it should be, relative to its norm."""

  def norm(x):
    return float(np.linalg.norm(np.asarray(x, np.float64)))

  far = jax.tree.map(
    lambda a, b: norm(np.asarray(a, np.float64) - b) / (norm(b) + floor), have, want
  )
  return {leaf_path(path): x for path, x in jax.tree_util.tree_leaves_with_path(far)}


@pytest.mark.parametrize("name, where", RUNS)
def test_a_mesh_trains_as_one_device(name, where, record_property):
  losses, slopes, params, adam = trained(name, where)
  one_losses, one_slopes, one_params, one_adam = trained(name, "one device")
  np.testing.assert_allclose(losses, one_losses, rtol=1e-5)
  whole = float(optax.tree.norm(one_slopes))
  assert whole > 0.1 and one_losses[-1] < one_losses[0]
  for path, far in apart(slopes, one_slopes, 1e-6 * whole).items():
    assert far <= 1e-5, (path, far)
  for path, far in apart(params, one_params).items():
    assert far <= 1e-5, (path, far)
  # AdamW divides by the size of a gradient, so rounding counts as much as signal where it is tiny.
  worst = max(
    np.abs(a - b).max()
    for a, b in zip(jax.tree.leaves(adam), jax.tree.leaves(one_adam), strict=True)
  )
  record_property("largest difference of a parameter after AdamW, in steps", float(worst) / 1e-3)


@pytest.mark.parametrize("name, where", [*ON_ONE_DEVICE, *RUNS])
def test_samples_of_a_row_do_not_see_each_other(name, where):
  """One word and one frame of a sample change: no logit of any other sample does, in any bit."""
  model, params, batch = made(name)
  layout, params = laid(CONFIGS[name], params, MESHES.get(where))
  other = {key: x.copy() for key, x in batch.items()}
  mine = np.flatnonzero(batch["segment_ids"][0] == 2)
  other["tokens"][0, mine[-3]] += 1
  frames = np.flatnonzero(batch["frame_segment_ids"][0] == 2)
  other["frames"][0, frames[1]] ^= 255
  with jax.set_mesh(layout) if layout else jax.default_device(jax.devices()[0]):
    run = jax.jit(functools.partial(hidden, model))

    def place(b):
      return batches.place_batch(b, layout) if layout else b

    (have, segments), (want, _) = (jax.device_get(run(params, place(b))) for b in (other, batch))
  assert segments.shape == want.shape[:2]
  changed = (have != want).any(-1)
  touched = np.zeros_like(segments)
  touched[0] = segments[0] == 2
  assert not changed[touched == 0].any()
  assert changed[touched > 0].any()


def hidden(model, params, batch):
  """(hidden states of what is left of the rows, their segments)."""
  found, left = step.hidden_states(model, params, batch, jax.random.key(0))
  return found, left["segment_ids"]


def test_the_rows_hold_what_they_should():
  made, _ = packed_rows.tiny_model(packed_rows.FILA)
  batch = packed_rows.packed_batch(made.layout(), [[packed_rows.PackedSample(0, 8, 2, 9)]])
  assert (batch["frame_segment_ids"] == 1).all() and (batch["image_segment_ids"] == 1).all()
  assert jnp.sum(batch["visual_index"] >= 0) == (
    8 * made.layout().tokens_per_group + 1 + 2 * made.layout().tokens_per_image
  )
