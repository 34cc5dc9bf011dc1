# SPDX-License-Identifier: Apache-2.0
"""Cuts and draws of the next token, against the warpers of transformers and known shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import sampling

RANKS, DRAW = jax.jit(sampling.ranked_logits), jax.jit(sampling.draw)


def logits(rows=3, vocab=40, seed=0):
  return (3 * np.random.default_rng(seed).standard_normal((rows, vocab))).astype(np.float32)


def keys(rows, seed=0):
  """The key of each row for its first draw."""
  one = jnp.broadcast_to(jax.random.key(seed), (rows,))
  return sampling.row_keys(one, jnp.zeros(rows, jnp.int32), jnp.arange(rows))


def shares(x, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0):
  """Probability of every token after the cuts."""
  ranked, order = RANKS(jnp.asarray(x), temperature, top_p, top_k, min_p)
  out = np.zeros(x.shape)
  np.put_along_axis(out, np.asarray(order), np.asarray(jax.nn.softmax(ranked)), axis=-1)
  return out


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.05, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 100])
def test_cuts_equal_transformers(temperature, top_p, top_k):
  torch = pytest.importorskip("torch")
  logits_process = pytest.importorskip("transformers.generation.logits_process")
  x = logits()
  want = logits_process.TemperatureLogitsWarper(temperature)(None, torch.tensor(x))
  if top_k:
    want = logits_process.TopKLogitsWarper(top_k)(None, want)
  want = logits_process.TopPLogitsWarper(top_p)(None, want).softmax(-1).numpy()
  np.testing.assert_allclose(shares(x, temperature, top_p, top_k), want, atol=1e-6)


@pytest.mark.parametrize("min_p", [0.02, 0.2, 1.0])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.7, 7)])
def test_min_p_equals_transformers(min_p, top_p, top_k):
  torch = pytest.importorskip("torch")
  logits_process = pytest.importorskip("transformers.generation.logits_process")
  x = logits()
  want = logits_process.TemperatureLogitsWarper(0.8)(None, torch.tensor(x))
  if top_k:
    want = logits_process.TopKLogitsWarper(top_k)(None, want)
  want = logits_process.TopPLogitsWarper(top_p)(None, want)
  want = logits_process.MinPLogitsWarper(min_p)(None, want).softmax(-1).numpy()
  np.testing.assert_allclose(shares(x, 0.8, top_p, top_k, min_p), want, atol=1e-6)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3])
def test_the_repetition_penalty_equals_transformers(penalty):
  torch = pytest.importorskip("torch")
  logits_process = pytest.importorskip("transformers.generation.logits_process")
  x = logits()
  ids = np.random.default_rng(1).integers(0, x.shape[1], (len(x), 9))
  seen = np.zeros(x.shape, bool)
  np.put_along_axis(seen, ids, True, axis=-1)
  processor = logits_process.RepetitionPenaltyLogitsProcessor(penalty)
  want = processor(torch.tensor(ids), torch.tensor(x)).numpy()
  penalised = sampling.penalised(jnp.asarray(x), jnp.asarray(seen), jnp.float32(penalty))
  np.testing.assert_allclose(penalised, want, rtol=1e-6)


def test_every_row_has_settings_of_its_own():
  x = logits(2)
  by_row = shares(x, np.array([0.5, 2.0]), np.array([0.9, 0.6]), np.array([0, 5]))
  first = shares(x[:1], 0.5, 0.9, 0)
  second = shares(x[1:], 2.0, 0.6, 5)
  np.testing.assert_allclose(by_row, np.concatenate([first, second]), rtol=1e-6)


def test_draws_follow_the_shares():
  x = np.tile(logits(1, 6), (20_000, 1))
  drawn = DRAW(jnp.asarray(x), keys(len(x)), jnp.float32(0.8), jnp.float32(0.9), jnp.int32(0))
  counts = np.bincount(drawn, minlength=6) / len(x)
  np.testing.assert_allclose(counts, shares(x[:1], 0.8, 0.9)[0], atol=0.015)


def test_a_row_does_not_depend_on_the_others():
  x, options = jnp.asarray(logits(4)), (jnp.float32(1), jnp.float32(1), jnp.int32(0))
  whole = DRAW(x, keys(4, 3), *options)
  for rows in (1, 2):
    np.testing.assert_array_equal(sampling.draw(x[:rows], keys(rows, 3), *options), whole[:rows])


def test_cuts_of_another_row_change_no_draw():
  """A row without cuts is drawn without sorting, or sorted beside one that has some."""
  x = jnp.asarray(logits(200, 300))
  one = jnp.ones(200)
  alone = DRAW(x, keys(200), one, one, jnp.zeros(200, jnp.int32), jnp.zeros(200))
  beside = DRAW(x, keys(200), one, one.at[0].set(0.5), jnp.zeros(200, jnp.int32), jnp.zeros(200))
  np.testing.assert_array_equal(alone[1:], beside[1:])


def test_greedy_takes_the_lower_id_of_a_tie():
  assert sampling.greedy(jnp.array([[0.0, 2.0, 2.0], [1.0, 0.0, 0.0]])).tolist() == [1, 0]


def test_masked_tokens_are_never_drawn():
  x = jnp.where(jnp.arange(8) < 2, 0.0, -jnp.inf)[None].repeat(500, axis=0)
  drawn = DRAW(x, keys(len(x)), jnp.float32(5), jnp.float32(1), jnp.int32(0))
  assert set(drawn.tolist()) == {0, 1}


@pytest.mark.parametrize(
  ("logits", "top_p", "kept"),
  [
    ([0.0, 0.0], 0.5, 1),  # One token of two has half of the probability already.
    ([0.0, 0.0], 0.51, 2),
    ([0.0, -30.0, -40.0], 1.0, 3),  # In float32, the first has all of the probability.
    ([0.0, 0.0], 0.0, 1),  # The likeliest token always stays.
  ],
)
def test_top_p_keeps_the_fewest_tokens(logits, top_p, kept):
  ranked, _ = sampling.ranked_logits(jnp.array([logits]), 1.0, top_p, 0)
  assert int(np.isfinite(ranked).sum()) == kept


def test_min_p_alone_cuts_a_draw():
  """The second token has 0.9 of the probability of the first."""
  x = jnp.tile(jnp.log(jnp.array([1.0, 0.9, 0.0001])), (64, 1))
  drawn = DRAW(x, keys(64), 1.0, 1.0, 0, 0.95)
  np.testing.assert_array_equal(drawn, 0)
