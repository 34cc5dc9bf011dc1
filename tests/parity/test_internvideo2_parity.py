# SPDX-License-Identifier: Apache-2.0
"""The InternVideo2 tower against a torch twin, stage by stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from twins import internvideo2 as twin
from twins.umt import parameters, random_, standardised

from filax.models.encoders import internvideo2

pytestmark = pytest.mark.slow

SIZES = dict(size=28, width=32, depth=3, heads=4, mlp=48, patch=7)


@pytest.mark.parametrize("clip", [4, 1])
def test_every_stage_equals_the_twin(clip):
  theirs = random_(twin.InternVideo2(**SIZES))
  ours = internvideo2.Model(**SIZES)
  params = parameters(theirs.state_dict(), heads=4)
  x = np.random.default_rng(0).integers(0, 256, (2, clip, 28, 28, 3), np.uint8)
  with torch.no_grad():
    expected = theirs.stages(standardised(x))

  def run(*args, **kwargs):
    return ours.apply({"params": params}, *args, **kwargs)

  np.testing.assert_allclose(run(jnp.asarray(x), method="embed"), expected[0], atol=1e-5)
  for i in range(3 if clip == 4 else 0):  # A picture's blocks are the same.
    stage = run(jnp.asarray(expected[i]), start=i, stop=i + 1, method="blocks")
    np.testing.assert_allclose(stage, expected[i + 1], atol=1e-5)
  out = jax.jit(ours.apply)({"params": params}, jnp.asarray(x))
  assert out.shape == (2, clip, 16, 32)
  np.testing.assert_allclose(out.reshape(2, -1, 32), expected[-1], atol=1e-5)
