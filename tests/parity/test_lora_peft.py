# SPDX-License-Identifier: Apache-2.0
"""LoRA against PEFT: the same weights, the same A, the same tokens, twenty steps."""

import hf_qwen2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.models import lora
from filax.train import optim, step
from filax.train.state import create_state

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.slow

STEPS = 20
RANK = 4
ALPHA = 8.0
RATE = 5e-3
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def kernels_of(params):
  """The kernels of a Qwen2's blocks."""
  kernels = {}
  for path, leaf in flatten_tree(params).items():
    if path.endswith("_proj/kernel"):
      inputs = 2 if "o_proj" in path else 1
      kernels[path] = lora.DenseKernel(leaf.shape, inputs, stacked=True)
  return kernels


def adapters_of(theirs, kernels):
  """The adapters of a PEFT model, in our layout."""
  tensors = {name: tensor.detach().numpy() for name, tensor in theirs.named_parameters()}
  leaves = {}
  for path, kernel in kernels.items():
    module = path.removeprefix("layers/").removesuffix("/kernel").replace("/", ".")
    shapes = lora.adapter_shapes(kernel, RANK)
    for name, part in ((lora.A, "lora_A"), (lora.B, "lora_B")):
      layers = []
      for layer in range(kernel.shape[0]):
        tensor = tensors[f"base_model.model.model.layers.{layer}.{module}.{part}.default.weight"]
        layers.append(tensor.T)
      leaves[lora.adapter_name(path, name)] = jnp.asarray(layers).reshape(shapes[name].shape)
    leaves[lora.adapter_name(path, lora.SCALE)] = jnp.full(kernel.stack, ALPHA / RANK)
  return leaves


def losses_of_theirs(model, tokens):
  trained = [x for x in model.parameters() if x.requires_grad]
  optimizer = torch.optim.AdamW(trained, RATE, eps=1e-8, weight_decay=0.0)
  losses = []
  for batch in tokens:
    batch = torch.tensor(batch)
    loss = model(batch, labels=batch).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
  return losses


def losses_of_ours(model, leaves, tokens):
  params = unflatten_tree(leaves)
  options = dict(
    rates=(("lora_[ab]$", RATE), ("", 0.0)),
    decay=(("", 0.0),),
    warmup=0,
    final=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    clip=0.0,
  )
  optimizer = optim.make_optimizer(options, params, STEPS)

  def loss(params, batch, rng):
    del rng
    variables = {"params": params}
    places = jnp.broadcast_to(jnp.arange(batch.shape[1]), batch.shape)
    states = model.apply(variables, batch, method="embed")
    states, _ = model.apply(variables, states, places)
    logits = model.apply(variables, states, method="logits")
    likelihoods = jax.nn.log_softmax(logits[:, :-1])
    nll = -jnp.take_along_axis(likelihoods, batch[:, 1:, None], axis=-1)
    sums = dict(count=jnp.float32(nll.size), hits=0.0, places=1.0, supervised=1.0, tokens=1.0)
    return nll.sum(), sums

  train_step = jax.jit(step.make_train_step(loss, optimizer))
  state = create_state(params, optimizer, 0)
  losses = []
  for batch in tokens:
    state, metrics = train_step(state, jnp.asarray(batch))
    losses.append(float(metrics["loss"]))
  return losses, flatten_tree(state.params)


def test_losses_are_those_of_peft():
  theirs, ours, params = hf_qwen2.pair(std=0.1)
  config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(NAMES), lora_dropout=0.0)
  theirs = peft.get_peft_model(theirs, config)
  kernels = kernels_of(params)
  leaves = flatten_tree(params) | adapters_of(theirs, kernels)
  assert len(kernels) == len(NAMES)
  rng = np.random.default_rng(0)
  tokens = np.tile(rng.integers(0, hf_qwen2.SIZES["vocab"], (1, 2, 24)), (STEPS, 1, 1))
  expected = losses_of_theirs(theirs, tokens)
  losses, after = losses_of_ours(ours, leaves, tokens)
  assert expected[-1] < 0.9 * expected[0]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  for path, x in adapters_of(theirs, kernels).items():
    np.testing.assert_allclose(after[path], x, atol=1e-4, err_msg=path)


def test_a_begins_as_in_peft():
  """Both draw A uniformly within 1 / sqrt(inputs)."""
  kernel = lora.DenseKernel((2, 4, 64, 32), inputs=2, stacked=True)
  a = lora.draw_adapters(jax.random.key(0), kernel, 8, 1.0)[lora.A]
  layer = torch.nn.Linear(256, 8, bias=False)
  torch.nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
  bound = 1 / 256**0.5
  for values in (np.asarray(a), layer.weight.detach().numpy()):
    assert 0.95 * bound < abs(values).max() <= bound
    assert abs(values.std() / bound - 3**-0.5) < 0.05
