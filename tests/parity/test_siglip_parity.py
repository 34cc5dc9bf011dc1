# SPDX-License-Identifier: Apache-2.0
"""SigLIP against transformers, random weights, float32: every stage within 1e-5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from filax.models.components import build

pytestmark = pytest.mark.slow


def reference(model, seed):
  """A tower of the same size with random norms and biases, which a fresh one would hide."""
  torch.manual_seed(seed)
  config = transformers.SiglipVisionConfig(
    hidden_size=model.width,
    intermediate_size=model.mlp,
    num_hidden_layers=model.depth,
    num_attention_heads=model.heads,
    image_size=model.size,
    patch_size=model.patch,
    vision_use_head=False,
    attn_implementation="eager",
  )
  tower = transformers.SiglipVisionModel(config).eval()
  with torch.no_grad():
    for name, p in tower.named_parameters():
      if name.endswith("bias") or "norm" in name:
        p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * torch.randn(p.shape))
  return tower


def read(tower, model):
  """The parameters of transformers' tower as ours."""
  state = {k.removeprefix("vision_model."): v.numpy() for k, v in tower.state_dict().items()}
  e, split = model.width, (model.heads, model.width // model.heads)

  def each(name, shape):
    return np.stack(
      [turn(state[f"encoder.layers.{i}.{name}"]).reshape(shape) for i in range(model.depth)]
    )

  def turn(a):
    return a.T if a.ndim == 2 else a

  def dense(name, kernel, bias):
    return dict(kernel=each(f"{name}.weight", kernel), bias=each(f"{name}.bias", bias))

  def norm(name):
    return dict(scale=each(f"{name}.weight", (e,)), bias=each(f"{name}.bias", (e,)))

  embeddings = "embeddings.patch_embedding"
  return jax.tree.map(
    jnp.asarray,
    dict(
      embeddings=dict(
        patch_embedding=dict(
          kernel=state[f"{embeddings}.weight"].transpose(2, 3, 1, 0),
          bias=state[f"{embeddings}.bias"],
        ),
        position_embedding=state["embeddings.position_embedding.weight"],
      ),
      layers=dict(
        layer_norm1=norm("layer_norm1"),
        layer_norm2=norm("layer_norm2"),
        self_attn=dict(
          **{f"{n}_proj": dense(f"self_attn.{n}_proj", (e, *split), split) for n in "qkv"},
          out_proj=dense("self_attn.out_proj", (*split, e), (e,)),
        ),
        mlp=dict(
          fc1=dense("mlp.fc1", (e, model.mlp), (model.mlp,)),
          fc2=dense("mlp.fc2", (model.mlp, e), (e,)),
        ),
      ),
    ),
  )


# An odd grid; pixels left over at the border (as 384 = 27 * 14 + 6); a head size of 72.
SIZES = [
  dict(),
  dict(size=75, patch=14),
  dict(width=144, heads=2, mlp=100, depth=2),
  dict(size=48, patch=12, width=64, depth=2, heads=4, mlp=256),
]


@pytest.mark.parametrize("fields", SIZES)
def test_every_stage_matches(fields):
  model = build("encoder", dict(name="siglip", variant="tiny") | fields)
  tower = reference(model, 0)
  params = {"params": read(tower, model)}
  frames = np.random.default_rng(1).integers(0, 256, (3, model.size, model.size, 3), np.uint8)
  pixels = (torch.tensor(frames).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
  with torch.no_grad():
    stages = [s.numpy() for s in tower(pixels, output_hidden_states=True).hidden_states]
  x = model.apply(params, jnp.asarray(frames), method="embed")
  np.testing.assert_allclose(x, stages[0], atol=1e-5)
  for layer in range(model.depth):

    def run(x, at=layer):
      return model.apply(params, x, start=at, stop=at + 1, method="blocks")

    block = jax.jit(run)(jnp.asarray(stages[layer]))
    np.testing.assert_allclose(block, stages[layer + 1], atol=1e-5)
  out = jax.jit(model.apply)(params, jnp.asarray(frames)[:, None])[:, 0]
  np.testing.assert_allclose(out, stages[-1], atol=1e-5)  # Before post_layernorm.


def test_gradients_match():
  model = build("encoder", dict(name="siglip", variant="tiny"))
  tower = reference(model, 1)
  params = read(tower, model)
  frames = np.random.default_rng(2).integers(0, 256, (2, model.size, model.size, 3), np.uint8)
  weight = np.random.default_rng(3).normal(size=(2, 9, model.width)).astype(np.float32)

  def loss(p):
    return (model.apply({"params": p}, jnp.asarray(frames)[:, None])[:, 0] * weight).sum()

  ours = jax.jit(jax.grad(loss))(params)
  pixels = (torch.tensor(frames).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
  hidden = tower(pixels, output_hidden_states=True).hidden_states[-1]
  (hidden * torch.tensor(weight)).sum().backward()
  for p in tower.parameters():
    p.data = p.grad if p.grad is not None else torch.zeros_like(p)  # Read gradients by name.
  theirs = read(tower, model)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)
