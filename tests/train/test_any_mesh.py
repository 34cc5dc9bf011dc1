# SPDX-License-Identifier: Apache-2.0
"""The same rows on any mesh: the losses, gradients and parameters of one device, and no leak."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from filax.models.components import dims_table
from filax.ops import losses
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
CHANGED = 2  # The segment of the sample that is changed.


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
  batch) -> (loss, gradient, parameters, (hidden states, segments)). Parameters lie as those given,
  so it compiles once."""

  def mean(learnt, frozen, batch):
    params = optim.merge_params(learnt, frozen)
    hidden, rows = step.hidden_states(model, params, batch, jax.random.key(0))
    head = model.apply({"params": params}, method="head")
    nll, _ = losses.cross_entropy(hidden, head, rows["targets"], chunk=32, vocab=model.vocab)
    total, count = losses.token_mean(nll, rows["loss_mask"])
    return total / count, (hidden, rows["segment_ids"])

  @functools.partial(
    jax.jit, out_shardings=(None, None, jax.tree.map(lambda x: x.sharding, learnt), None)
  )
  def run(learnt, frozen, batch):
    (loss, seen), slope = jax.value_and_grad(mean, has_aux=True)(learnt, frozen, batch)
    return loss, slope, jax.tree.map(lambda p, g: p - RATE * g, learnt, slope), seen

  return run


@dataclasses.dataclass(frozen=True)
class Training:
  """What SGD gave, and AdamW over the same gradients."""

  losses: list[float]
  slopes: Any  # The first gradient.
  params: Any  # After SGD.
  adam: Any  # After AdamW.
  seen: tuple[np.ndarray, np.ndarray]  # The first hidden states, and their segments.
  seen_otherwise: tuple[np.ndarray, np.ndarray]  # The same for the changed batch.


@functools.cache
def trained(name: str, where: str) -> Training:
  """Trains a config on a mesh."""
  model, params, batch = made(name)
  layout, params = laid(CONFIGS[name], params, MESHES.get(where))
  frozen = {"encoder": params.pop("encoder")}
  with jax.set_mesh(layout) if layout else jax.default_device(jax.devices()[0]):

    def place(b):
      return batches.place_batch(b, layout) if layout else b

    run = gradient(model, params)
    seen_otherwise = jax.device_get(run(params, frozen, place(changed(batch)))[-1])
    batch = place(batch)
    found, slopes, seen = [], [], []
    for _ in range(STEPS):
      loss, slope, params, hidden = run(params, frozen, batch)
      found.append(float(loss))
      slopes.append(jax.device_get(slope))
      seen.append(jax.device_get(hidden))
  adam = jax.device_get(adamw(slopes))
  return Training(found, slopes[0], jax.device_get(params), adam, seen[0], seen_otherwise)


def changed(batch):
  """A batch with one other word and one other frame in a sample."""
  other = {key: x.copy() for key, x in batch.items()}
  mine = np.flatnonzero(batch["segment_ids"][0] == CHANGED)
  other["tokens"][0, mine[-3]] += 1
  frames = np.flatnonzero(batch["frame_segment_ids"][0] == CHANGED)
  other["frames"][0, frames[1]] ^= 255
  return other


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
  have, want = trained(name, where), trained(name, "one device")
  np.testing.assert_allclose(have.losses, want.losses, rtol=1e-5)
  whole = float(optax.tree.norm(want.slopes))
  assert whole > 0.1 and want.losses[-1] < want.losses[0]
  for path, far in apart(have.slopes, want.slopes, 1e-6 * whole).items():
    assert far <= 1e-5, (path, far)
  for path, far in apart(have.params, want.params).items():
    assert far <= 1e-5, (path, far)
  # AdamW divides by the size of a gradient, so rounding counts as much as signal where it is tiny.
  worst = max(
    np.abs(a - b).max()
    for a, b in zip(jax.tree.leaves(have.adam), jax.tree.leaves(want.adam), strict=True)
  )
  record_property("largest difference of a parameter after AdamW, in steps", float(worst) / 1e-3)


@pytest.mark.parametrize("name, where", [*ON_ONE_DEVICE, *RUNS])
def test_samples_of_a_row_do_not_see_each_other(name, where):
  """One word and one frame of a sample change: no hidden state of any other sample does, in any
  bit, in the program that trains."""
  found = trained(name, where)
  want, segments = found.seen
  have, _ = found.seen_otherwise
  assert segments.shape == want.shape[:2]
  differ = (have != want).any(-1)
  touched = np.zeros_like(segments)
  touched[0] = segments[0] == CHANGED
  assert not differ[touched == 0].any()
  assert differ[touched > 0].any()


def test_the_rows_hold_what_they_should():
  made, _ = packed_rows.tiny_model(packed_rows.FILA)
  batch = packed_rows.packed_batch(made.layout(), [[packed_rows.PackedSample(0, 8, 2, 9)]])
  assert (batch["frame_segment_ids"] == 1).all() and (batch["image_segment_ids"] == 1).all()
  assert jnp.sum(batch["visual_index"] >= 0) == (
    8 * made.layout().tokens_per_group + 1 + 2 * made.layout().tokens_per_image
  )
