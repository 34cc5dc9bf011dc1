# SPDX-License-Identifier: Apache-2.0
"""Decoding in chunks: the same tokens for every chunk length, with their log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.infer import decoding
from filax.infer.encode_long import weight_digests
from filax.infer.generate import generate, stream
from filax.models import layer_cache
from filax.models.components import build_video_lm
from filax.models.layers_apart import layers_apart
from filax.ops.attention.device import Device
from filax.spec import TEXT
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

LENGTHS = (16, 32)
CHANGES = {"model.llm.vocab": 120}
SAMPLED = dict(temperature=1.5, top_p=0.9, top_k=30, seed=4)
# Tokens of the first implementation, which decoded a whole answer in one loop.
GREEDY = [
  [18, 10, 18] + [10] * 17,
  [22, 90, 74] * 6 + [22, 90],
  [7, 74, 74, 74, 74, 22, 44, 90, 74, 22, 44, 90, 74, 22, 90, 74, 22, 90, 74, 22],
]
# Of a seed, one token at a time; the noise of a draw belongs to the token.
DRAWN = [
  [57, 17, 100, 57, 100, 41, 42, 1, 18, 42, 116, 116, 7, 5, 100, 116, 0, 42, 22, 7],
  [42, 36, 75, 68, 76, 42, 20, 0, 107, 16, 116, 0, 90, 99, 92, 119, 22, 72, 85, 12],
  [44, 18, 82, 22, 107, 20, 51, 10, 18, 92, 18, 110, 46, 68, 42, 0, 73, 74, 62, 90],
]
DROPPED = [[18, 10] * 6]


@pytest.fixture(scope="module")
def model():
  return build_video_lm(tiny_checkpoint.tiny_config(**CHANGES)["model"])


@pytest.fixture(scope="module")
def params():
  return tiny_checkpoint.tiny_parameters(tiny_checkpoint.tiny_config(**CHANGES), seed=3)


def prompts(*lengths):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 120, length).tolist() for length in lengths]


@pytest.mark.parametrize("settings, expected", [(dict(), GREEDY), (SAMPLED, DRAWN)])
@pytest.mark.parametrize("steps", [1, 8, 16])
def test_tokens_do_not_depend_on_the_chunk(model, params, settings, expected, steps):
  options = dict(max_new_tokens=20, lengths=LENGTHS, steps=steps) | settings
  assert generate(model, params, prompts(3, 14, 9), **options).tokens == expected


def test_layers_apart_give_the_same_tokens(model, params):
  options = dict(max_new_tokens=20, lengths=LENGTHS)
  apart = layers_apart(params)
  assert generate(model, apart, prompts(3, 14, 9), **options).tokens == GREEDY


@pytest.mark.parametrize("platform, slots", [("cpu", 130), ("tpu", 130), ("gpu", 256)])
def test_a_gpu_gets_whole_tiles_of_slots(model, params, monkeypatch, platform, slots):
  """Else XLA for GPUs pads keys and values for every token."""
  monkeypatch.setattr(layer_cache, "device_in_use", lambda: Device(platform, (9, 0)))
  for arranged in (params, layers_apart(params)):
    cache = model.apply({"params": arranged}, 2, (130,), method="empty_cache")
    assert cache.slots == slots


@pytest.mark.parametrize("arrange", [dict, layers_apart], ids=["stacked", "apart"])
def test_tokens_after_dropped_pictures(params, arrange):
  config = tiny_checkpoint.tiny_config(**CHANGES)["model"]
  config["llm"] |= dict(dropout=((1, "uniform", 0.75), (2, "attention", 0.25)))
  model = build_video_lm(config)
  table = np.random.default_rng(1).normal(size=(1, 24, model.llm.width)).astype(np.float32)
  index = np.full(30, TEXT)
  index[3:23] = np.arange(20)
  generated = generate(
    model,
    arrange(params),
    prompts(30),
    table=jnp.asarray(table),
    visual_index=[index],
    max_new_tokens=12,
    lengths=(8, 16, 24, 32),
  )
  assert generated.tokens == DROPPED


def test_log_probabilities_are_those_of_a_whole_forward_pass(model, params):
  (prompt,) = prompts(9)
  generated = generate(model, params, [prompt], max_new_tokens=12, lengths=LENGTHS, **SAMPLED)
  tokens = jnp.asarray([[*prompt, *generated.tokens[0]]])

  def logits(model, tokens):
    x = model.llm.embed(tokens)
    hidden, _ = model.llm(x, jnp.arange(tokens.shape[1])[None])
    return model.logits(hidden)

  expected = jax.nn.log_softmax(model.apply({"params": params}, tokens, method=logits)[0])
  expected = expected[jnp.arange(8, 20), tokens[0, 9:]]
  np.testing.assert_allclose(generated.logprobs[0], expected, atol=1e-4)


def test_a_row_that_stops_early_leaves_the_others_alone(model, params):
  stop = [GREEDY[2][5], 119]  # 22 begins the second row, and comes sixth in the third.
  options = dict(max_new_tokens=20, lengths=LENGTHS, stop=stop)
  generated = generate(model, params, prompts(3, 14, 9), **options)
  assert generated.tokens == [GREEDY[0], [], GREEDY[2][:5]]
  assert generated.stopped == [False, True, True]
  assert [len(row) for row in generated.logprobs] == [20, 0, 5]


def test_the_first_chunk_comes_before_the_last_token_is_decoded(model, params):
  calls = count_calls(model, params, chunks=1)
  assert calls == 0  # Of decode: the prefill gave the first token.


def test_no_chunk_runs_after_the_last_that_was_asked_for(model, params):
  assert count_calls(model, params, chunks=3) == 2


def count_calls(model, params, chunks):
  """Device calls of decode when `chunks` chunks are taken of a long answer."""
  calls = []
  run = decoding.DECODE._run

  def counted(*args, **kwargs):
    calls.append(1)
    return run(*args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decoding.DECODE, "_run", counted)
    answer = stream(model, params, prompts(9), max_new_tokens=200, lengths=LENGTHS)
    for _ in range(chunks):
      next(answer)
    answer.close()
  return len(calls)


def test_bad_settings_are_named_before_the_first_chunk(model, params):
  with pytest.raises(ValueError, match="max_new_tokens=0"):
    stream(model, params, prompts(4), max_new_tokens=0)


def test_digests_of_weights_are_the_same_with_layers_apart(params):
  assert weight_digests(layers_apart(params)) == weight_digests(params)
