# SPDX-License-Identifier: Apache-2.0
"""The UMT tower against a torch twin, stage by stage, and its fixed positions against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from twins import umt as twin

from filax.models.encoders import umt
from filax.ops import pooling, position_table

pytestmark = pytest.mark.slow

SIZES = dict(size=32, width=32, depth=3, heads=4, mlp=48, patch=8)


def pair(**sizes):
  """(twin, our model, our parameters)."""
  theirs = twin.random_(twin.UMT(**SIZES | sizes))
  return theirs, umt.Model(**SIZES | sizes), twin.parameters(theirs.state_dict(), SIZES["heads"])


def frames(batch, clip, size=32, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (batch, clip, size, size, 3), np.uint8)


def test_every_stage_equals_the_twin():
  theirs, ours, params = pair(trained=(4, 4))
  x = frames(2, 4)
  with torch.no_grad():
    expected = theirs.stages(twin.standardised(x))

  def run(*args, **kwargs):
    return ours.apply({"params": params}, *args, **kwargs)

  np.testing.assert_allclose(run(jnp.asarray(x), method="embed"), expected[0], atol=1e-5)
  for i in range(3):
    stage = run(jnp.asarray(expected[i]), start=i, stop=i + 1, method="blocks")
    np.testing.assert_allclose(stage, expected[i + 1], atol=1e-5)


@pytest.mark.parametrize(("clip", "trained"), [(4, (4, 4)), (1, (4, 2)), (6, (4, 2))])
def test_clips_and_pictures_equal_the_twin(clip, trained):
  theirs, ours, params = pair(trained=trained)
  x = frames(2, clip)
  with torch.no_grad():
    expected = theirs(twin.standardised(x))
  out = jax.jit(ours.apply)({"params": params}, jnp.asarray(x))
  assert out.shape == (2, clip, 16, 32)
  np.testing.assert_allclose(out.reshape(2, -1, 32), expected, atol=1e-5)


@pytest.mark.parametrize(("frames", "side"), [(4, 14), (1, 14), (4, 28), (1, 28), (8, 14), (2, 28)])
def test_positions_equal_torchs(frames, side):
  ours = position_table.position_table(frames, side, 64, (4, 14))
  assert ours.dtype == np.float32
  np.testing.assert_allclose(ours, twin.positions(frames, side, 64), atol=1e-6)


@pytest.mark.parametrize(("size", "out"), [(14, 28), (14, 20), (7, 3), (4, 4)])
def test_resampling_equals_torchs(size, out):
  x = np.random.default_rng(0).normal(size=(1, 5, size))
  ours = x[0] @ pooling.linear_operator(size, out).T
  theirs = torch.nn.functional.interpolate(torch.tensor(x), size=out, mode="linear")
  np.testing.assert_allclose(ours, theirs[0], atol=1e-12)
  x = np.random.default_rng(0).normal(size=(1, 2, size, size))
  grow = position_table.bicubic_operator(size, out)
  ours = grow @ x[0] @ grow.T
  theirs = torch.nn.functional.interpolate(torch.tensor(x), size=(out, out), mode="bicubic")
  np.testing.assert_allclose(ours, theirs[0], atol=1e-12)
