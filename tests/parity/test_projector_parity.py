# SPDX-License-Identifier: Apache-2.0
"""Projector and pooling against torch and transformers, float32."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, interpolate
from transformers.models.llava_onevision import modeling_llava_onevision as onevision

from filax.models.components import build
from filax.ops import pooling

pytestmark = pytest.mark.slow


def noise(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ("grid", "side"),
  [
    ((27, 27), 2),
    ((3, 3), 2),
    ((5, 7), 2),
    ((4, 4), 2),
    ((14, 6), 2),
    ((1, 1), 2),
    ((27, 27), 3),
    ((9, 16), 4),
  ],
)
def test_pooling_equals_interpolate(grid, side):
  x = noise(2, 3, grid[0] * grid[1], 5)
  out = pooling.pooled_grid(grid, side)
  got = pooling.bilinear(jnp.asarray(x), grid, side)
  # In float32 torch rounds the source coordinates (up to 27, so 2e-6); ours are exact.
  for dtype, atol in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
    picture = torch.tensor(x, dtype=dtype).reshape(6, *grid, 5).permute(0, 3, 1, 2)
    want = interpolate(picture, size=out, mode="bilinear", align_corners=False, antialias=False)
    want = want.permute(0, 2, 3, 1).reshape(2, 3, out[0] * out[1], 5)
    np.testing.assert_allclose(got, want.numpy(), atol=atol, rtol=0)


def test_mlp_is_the_exact_gelu():
  model = build("projector", dict(name="mlp"), out=16)
  w1, b1, w2, b2, x = noise(6, 16), noise(16), noise(16, 16), noise(16), 2 * noise(1, 2, 9, 6)
  params = dict(
    linear_1=dict(kernel=jnp.asarray(w1), bias=jnp.asarray(b1)),
    linear_2=dict(kernel=jnp.asarray(w2), bias=jnp.asarray(b2)),
    image_newline=jnp.asarray(b1),
  )
  hidden = gelu(torch.tensor(x) @ torch.tensor(w1) + torch.tensor(b1))
  want = (hidden @ torch.tensor(w2) + torch.tensor(b2)).numpy()
  got = model.apply({"params": params}, jnp.asarray(x), method="mlp")
  np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("size", [42, 70, 56])
def test_mlp_and_pooling_equal_llava_onevision(size):
  """Through transformers' own projector and apply_pooling, on grids of 3, 5 and 4."""
  torch.manual_seed(0)
  config = onevision.LlavaOnevisionConfig(
    vision_config=dict(
      model_type="siglip_vision_model",
      hidden_size=32,
      intermediate_size=48,
      image_size=size,
      patch_size=14,
      num_hidden_layers=1,
      num_attention_heads=4,
      vision_use_head=False,
    ),
    text_config=dict(
      model_type="qwen2",
      hidden_size=64,
      intermediate_size=96,
      num_hidden_layers=1,
      num_attention_heads=4,
      num_key_value_heads=2,
      vocab_size=160,
    ),
  )
  theirs = onevision.LlavaOnevisionModel(config).eval()
  projector, side = theirs.multi_modal_projector, size // 14

  def get(layer):
    return dict(
      kernel=jnp.asarray(layer.weight.detach().numpy().T), bias=jnp.asarray(layer.bias.detach())
    )

  params = dict(
    linear_1=get(projector.linear_1),
    linear_2=get(projector.linear_2),
    image_newline=jnp.asarray(theirs.image_newline.detach()),
  )
  x = noise(3, side * side, 32)
  with torch.no_grad():
    flat = projector(torch.tensor(x))
    want = theirs.apply_pooling(flat).numpy()
  model = build("projector", dict(name="mlp"), out=64)

  def run(method, *args):
    return model.apply({"params": params}, *args, method=method)

  y = run("mlp", jnp.asarray(x)[None])
  np.testing.assert_allclose(y[0], flat.numpy(), atol=1e-5)
  pooled = run("pool", y, (side, side))
  assert pooled.shape[2] == np.prod(model.pooled_grid((side, side)))
  np.testing.assert_allclose(pooled[0], want, atol=1e-5)
  np.testing.assert_array_equal(run("newline_vector"), params["image_newline"])
