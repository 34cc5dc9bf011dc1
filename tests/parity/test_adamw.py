# SPDX-License-Identifier: Apache-2.0
"""Fifty updates beside torch.optim.AdamW, torch's clipping and the schedule of transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from filax.train import optim

pytestmark = pytest.mark.slow


def test_updates_match_torch():
  rng = np.random.default_rng(0)
  start = {"a": {"kernel": rng.normal(size=(5, 4))}, "b": {"bias": rng.normal(size=(4,))}}
  start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
  steps = 50
  optimizer = optim.make_optimizer(
    dict(
      rates=(("^a/", 3e-2), ("^b/", 1e-3)),
      decay=(("kernel$", 0.1), ("", 0.0)),
      warmup=0.1,
      final=0.0,
      b1=0.9,
      b2=0.999,
      eps=1e-8,
      clip=1.0,
    ),
    start,
    steps,
  )
  kernel, bias = (torch.nn.Parameter(torch.tensor(np.asarray(x))) for x in jax.tree.leaves(start))
  theirs = torch.optim.AdamW(
    [
      dict(params=[kernel], lr=3e-2, weight_decay=0.1),
      dict(params=[bias], lr=1e-3, weight_decay=0.0),
    ],
    betas=(0.9, 0.999),
    eps=1e-8,
  )
  schedule = transformers.get_cosine_schedule_with_warmup(theirs, 5, steps)
  update = jax.jit(optimizer.transform.update)
  ours, opt = start, optimizer.init(start)
  for n in range(steps):
    grads = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(size=x.shape) * rng.choice([0.1, 3.0]), jnp.float32), start
    )
    np.testing.assert_allclose(
      optimizer.learning_rates(n)["a"], schedule.get_last_lr()[0], rtol=1e-5, atol=1e-9
    )
    kernel.grad, bias.grad = (torch.tensor(np.asarray(g)) for g in jax.tree.leaves(grads))
    torch.nn.utils.clip_grad_norm_([kernel, bias], 1.0)
    theirs.step()
    schedule.step()
    updates, opt = update(grads, opt, ours)
    ours = jax.tree.map(jnp.add, ours, updates)
  for mine, other in zip(jax.tree.leaves(ours), (kernel, bias), strict=True):
    np.testing.assert_allclose(mine, other.detach().numpy(), rtol=1e-5, atol=1e-6)
