# SPDX-License-Identifier: Apache-2.0
"""Qwen2 against transformers on random tiny weights: 1e-5 a layer, 1e-4 on logits, float32."""

import hf_qwen2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from filax.convert import llm_config_in, llm_config_out
from filax.models import components
from filax.ops import rope

pytestmark = pytest.mark.slow

QWEN2 = dict(
  model_type="qwen2",
  hidden_size=256,
  intermediate_size=24,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  vocab_size=40,
  rms_norm_eps=1e-6,
  tie_word_embeddings=False,
)
CASES = {
  "untied": dict(),
  "tied": dict(tied=True),
  "mha": dict(heads=4, kv_heads=4),
  "one kv head": dict(heads=6, kv_heads=1),
  "wide heads": dict(head_dim=16),
  "yarn": dict(yarn=(4.0, 16)),
  "yarn far": dict(yarn=(8.0, 512), head_dim=32),
  "yarn with every key": dict(
    yarn=(
      4.0,
      16,
      (("attention_factor", 1.7), ("beta_fast", 8.0), ("beta_slow", 2.0), ("truncate", False)),
    )
  ),
}


def layers_of_theirs(model, tokens, **kwargs):
  """Hidden states after the embedding and after every layer (the last without its norm)."""
  found = [model.model.embed_tokens(tokens)]
  hooks = [
    layer.register_forward_hook(
      lambda _m, _i, out: found.append(out[0] if isinstance(out, tuple) else out)
    )
    for layer in model.model.layers
  ]
  with torch.no_grad():
    logits = model(tokens, **kwargs).logits
  for hook in hooks:
    hook.remove()
  return [x.detach().numpy() for x in found], logits.numpy()


def layers_of_ours(model, params, inputs):
  """The output of every layer for the given input of every layer."""
  positions = jnp.broadcast_to(jnp.arange(inputs[0].shape[1]), inputs[0].shape[:2])

  def one(params, x, layer):
    return model.apply(
      {"params": params}, x, positions, start=layer, stop=layer + 1, method="blocks"
    )[0]

  run = jax.jit(lambda params, inputs: [one(params, x, i) for i, x in enumerate(inputs)])
  return run(params, [jnp.asarray(x) for x in inputs])


def logits_of_ours(model, params, tokens, positions=None, segment_ids=None):
  if positions is None:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

  def run(model, tokens):
    hidden, _ = model(model.embed(tokens), positions, segment_ids)
    return model.logits(hidden)

  return jax.jit(lambda params: model.apply({"params": params}, tokens, method=run))(params)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_and_the_logits_equal_transformers(name):
  theirs, ours, params = hf_qwen2.pair(**CASES[name])
  tokens = np.random.default_rng(1).integers(0, ours.vocab, (2, 40))
  hidden, logits = layers_of_theirs(theirs, torch.tensor(tokens))
  tokens = jnp.asarray(tokens)
  x = ours.apply({"params": params}, tokens, method="embed")
  np.testing.assert_array_equal(x, hidden[0])
  # Each layer gets their input, so that the tolerance is that of one layer.
  for mine, layer in zip(layers_of_ours(ours, params, hidden[:-1]), hidden[1:], strict=True):
    scale = np.abs(layer).max()
    np.testing.assert_allclose(mine / scale, layer / scale, atol=1e-5, rtol=0)
  np.testing.assert_allclose(logits_of_ours(ours, params, tokens), logits, atol=1e-4, rtol=1e-4)


def test_packed_segments_equal_separate_rows():
  theirs, ours, params = hf_qwen2.pair()
  rng = np.random.default_rng(2)
  samples = [rng.integers(0, ours.vocab, n) for n in (11, 5, 17)]
  tokens = np.concatenate([*samples, np.zeros(7, int)])
  segments = np.repeat([1, 2, 3, 0], [11, 5, 17, 7])
  positions = np.concatenate([*map(np.arange, (11, 5, 17)), np.zeros(7, int)])
  packed = logits_of_ours(
    ours, params, *(jnp.asarray(x, jnp.int32)[None] for x in (tokens, positions, segments))
  )[0]
  assert np.isfinite(packed).all()
  for segment, sample in enumerate(samples, 1):
    with torch.no_grad():
      alone = theirs(torch.tensor(sample)[None]).logits[0].numpy()
    np.testing.assert_allclose(packed[segments == segment], alone, atol=1e-4, rtol=1e-4)


def test_right_padding_changes_no_real_token():
  theirs, ours, params = hf_qwen2.pair()
  tokens = np.random.default_rng(3).integers(1, ours.vocab, (2, 20))
  lengths = np.array([20, 9])
  mask = np.arange(20) < lengths[:, None]
  with torch.no_grad():
    logits = theirs(torch.tensor(tokens * mask), attention_mask=torch.tensor(mask)).logits.numpy()
  mine = logits_of_ours(ours, params, jnp.asarray(tokens * mask))
  np.testing.assert_allclose(mine[mask], logits[mask], atol=1e-4, rtol=1e-4)


YARN = [
  {},
  dict(attention_factor=0.8),
  dict(beta_fast=16.0),
  dict(beta_slow=4.0),
  dict(beta_fast=4.0, beta_slow=4.0),
  dict(truncate=False),
  dict(truncate=True),
  dict(mscale=0.7, mscale_all_dim=0.5),
  dict(mscale=0.7),
  dict(mscale_all_dim=0.5),
  dict(mscale=0.7, mscale_all_dim=0.5, attention_factor=1.1),
  dict(factor=None),
  dict(beta_fast=24.0, beta_slow=0.5, truncate=False, mscale=1.0, mscale_all_dim=1.0),
]


@pytest.mark.parametrize("options", YARN, ids=str)
def test_every_key_of_yarn_means_what_it_means_in_transformers(options):
  settings = (
    dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=512, rope_theta=1e4)
    | options
  )
  spelled = QWEN2 | dict(
    head_dim=64, max_position_embeddings=4096, rope_scaling=settings, rope_theta=1e4
  )
  theirs = transformers.Qwen2Config(
    **{k: v for k, v in spelled.items() if k not in ("model_type", "rope_scaling", "rope_theta")},
    rope_parameters=settings,
  )
  inverse, factor = ROPE_INIT_FUNCTIONS["yarn"](theirs, "cpu")
  role = llm_config_in.read_llm(spelled)
  ours, our_factor = rope.frequencies(64, role["theta"], role["yarn"])
  np.testing.assert_allclose(ours, inverse.numpy(), rtol=1e-5)
  assert our_factor == pytest.approx(factor)
  written = llm_config_out.llm_config("qwen2", components.build("llm", role), "float32", None)
  assert llm_config_in.read_llm(written)["yarn"] == role["yarn"]
