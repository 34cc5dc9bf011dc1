# SPDX-License-Identifier: Apache-2.0
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from filax.testing import row_source
from filax.train import optim, state, step

pytestmark = pytest.mark.slow

OPTIM = dict(
  rates=(("^encoder/", 0.0), ("", 1e-2)),
  decay=(("", 0.0),),
  warmup=0.0,
  final=1.0,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  clip=0.0,
)


class Standin(nn.Module):
  """The interface of a VideoLM over a bag of pixels and a table of tokens."""

  vocab: int = 500
  stages = ()

  def setup(self):
    self.encoder = nn.Dense(8)
    self.llm = nn.Embed(512, 8)

  def __call__(self, batch):
    pixels = batch["frames"].astype(jnp.float32).mean((1, 2, 3)) / 255
    return jnp.tanh(self.llm(batch["tokens"]) + self.encoder(pixels)[:, None])

  def head(self):
    return self.llm.embedding.T


MODEL = Standin()
BATCH = row_source.random_batch(8)


def params():
  return MODEL.init(jax.random.key(0), BATCH)["params"]


def setup(reduction="token_mean", accumulate=1, **changes):
  optimizer = optim.make_optimizer(OPTIM | changes, params(), steps=100)
  loss = step.make_loss(MODEL, reduction, chunk=8)
  return (
    optimizer,
    jax.jit(step.make_train_step(loss, optimizer, accumulate)),
    state.create_state(params(), optimizer, seed=0),
  )


def reference(p, batch, reduction):
  """The loss from the definition, in float64."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
  pixels = batch["frames"].mean((1, 2, 3), dtype=np.float64) / 255
  visual = pixels @ p["encoder"]["kernel"] + p["encoder"]["bias"]
  hidden = np.tanh(p["llm"]["embedding"][batch["tokens"]] + visual[:, None])
  logits = (hidden @ p["llm"]["embedding"].T)[..., : MODEL.vocab]
  logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  targets = np.minimum(batch["targets"], MODEL.vocab - 1)
  nll = -np.take_along_axis(logp, targets[..., None], -1)[..., 0]
  mask = batch["loss_mask"] > 0
  if reduction == "token_mean":
    return nll[mask].mean()
  segments = batch["segment_ids"]
  return np.mean(
    [nll[r][mask[r] & (segments[r] == s)].mean() for r in range(len(nll)) for s in (1, 2)]
  )


@pytest.fixture(autouse=True)
def real_targets(monkeypatch):
  """Targets inside the vocabulary of 500, whose table has 512 rows."""
  monkeypatch.setitem(BATCH, "targets", np.minimum(BATCH["targets"], MODEL.vocab - 1))


@pytest.mark.parametrize("reduction", step.REDUCTIONS)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_loss_is_the_mean_however_it_is_cut_up(reduction, accumulate):
  """Rows have different numbers of supervised tokens: a mean of means would be another number."""
  _, run, made = setup(reduction, accumulate)
  _, got = run(made, BATCH)
  np.testing.assert_allclose(got["loss"], reference(params(), BATCH, reduction), rtol=1e-5)


@pytest.mark.parametrize("reduction", step.REDUCTIONS)
def test_a_batch_of_one_token_is_divided_by_one(reduction):
  mask = np.zeros_like(BATCH["loss_mask"])
  mask[3, 5] = 1
  batch = BATCH | dict(loss_mask=mask)
  _, run, made = setup(reduction)
  _, got = run(made, batch)
  np.testing.assert_allclose(got["loss"], reference(params(), batch, "token_mean"), rtol=1e-5)


def test_reductions_differ():
  assert (
    abs(reference(params(), BATCH, "token_mean") - reference(params(), BATCH, "sample_mean")) > 1e-3
  )


@pytest.mark.parametrize("reduction", step.REDUCTIONS)
def test_gradient_does_not_depend_on_accumulation(reduction):
  norms, states = [], []
  for parts in (1, 2, 8):
    _, run, made = setup(reduction, parts)
    after, got = run(made, BATCH)
    norms.append(got["grad_norm"])
    states.append(after)
  np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
  mu = [jax.tree.leaves(s.opt)[1] for s in states]
  for other in mu[1:]:
    np.testing.assert_allclose(other, mu[0], rtol=1e-4, atol=1e-8)


def test_only_the_trainable_subtree_is_touched():
  _, run, made = setup()
  after, got = run(made, BATCH)
  jax.tree.map(np.testing.assert_array_equal, after.params["encoder"], made.params["encoder"])
  assert np.abs(after.params["llm"]["embedding"] - made.params["llm"]["embedding"]).max() > 1e-3
  loss = step.make_loss(MODEL, "token_mean")
  batch = jax.tree.map(jnp.asarray, BATCH)
  full = jax.grad(lambda p: (lambda t, s: t / s["count"])(*loss(p, batch, jax.random.key(0))))(
    made.params
  )
  assert optax.tree.norm(full["encoder"]) > 0
  np.testing.assert_allclose(got["grad_norm"], optax.tree.norm(full["llm"]), rtol=1e-5)
  assert sum(x.size for x in jax.tree.leaves(after.opt) if x.ndim) == 2 * 512 * 8


def test_metrics_count_what_the_rows_hold():
  _, run, made = setup()
  _, got = run(made, BATCH | {"num_bad": np.arange(8, dtype=np.int32)})
  expected = dict(
    supervised=BATCH["loss_mask"].sum(),
    tokens=8 * 30,
    frames=8 * 3,
    images=8,
    num_bad=28,
    pairs=8 * (12 * 13 + 18 * 19) / 2,
    padding=2 / 32,
    finite=1,
    **{"lr/all": 1e-2},
  )
  for key, value in expected.items():
    np.testing.assert_allclose(got[key], value, rtol=1e-6, err_msg=key)
  assert {x.shape for x in got.values()} == {()}


def test_accuracy_is_of_supervised_tokens():
  _, run, made = setup()
  table = np.zeros((512, 8), np.float32)
  table[7, :] = 5.0  # tanh of anything near it points at token 7.
  made = made.replace(params={"encoder": made.params["encoder"], "llm": {"embedding": table}})
  targets = np.where(np.arange(32) % 2, 7, 3).astype(np.int32) * np.ones((8, 1), np.int32)
  _, got = run(made, BATCH | {"targets": targets, "tokens": np.full((8, 32), 7, np.int32)})
  mask = BATCH["loss_mask"] > 0
  np.testing.assert_allclose(got["accuracy"], (targets[mask] == 7).mean(), rtol=1e-6)


def test_a_step_learns_and_counts():
  _, run, made = setup(rates=(("", 1e-1),))
  losses = []
  for _ in range(30):
    made, got = run(made, BATCH)
    losses.append(float(got["loss"]))
  assert losses[-1] < losses[0] - 1 and int(made.step) == 30


def test_not_finite_is_flagged():
  _, run, made = setup()
  broken = jax.tree.map(lambda x: x.at[0].set(jnp.nan), made.params)
  assert run(made.replace(params=broken), BATCH)[1]["finite"] == 0


def test_a_gradient_that_is_not_finite_is_flagged():
  def root(params, batch, rng):
    weight = params["llm"]["embedding"][0, 0]
    sums = dict.fromkeys(("count", "hits", "supervised", "tokens", "places"), jnp.float32(1))
    return jnp.sqrt(weight - weight), sums  # The root of 0 has an infinite slope.

  optimizer = optim.make_optimizer(OPTIM, params(), 10)
  run = jax.jit(step.make_train_step(root, optimizer))
  _, got = run(state.create_state(params(), optimizer, seed=0), BATCH)
  assert got["loss"] == 0
  assert got["finite"] == 0


def test_rows_without_supervision_change_nothing():
  _, run, made = setup()
  after, got = run(made, BATCH | {"loss_mask": np.zeros_like(BATCH["loss_mask"])})
  assert got["loss"] == 0 and got["finite"] == 1
  jax.tree.map(np.testing.assert_array_equal, after.params, made.params)


def test_randomness_is_a_function_of_seed_and_step():
  class Noisy(Standin):
    def __call__(self, batch):
      x = super().__call__(batch)
      return x + jax.random.normal(self.make_rng("dropout"), x.shape)

  loss = step.make_loss(Noisy(), "token_mean")
  optimizer = optim.make_optimizer(OPTIM, params(), 10)
  run = jax.jit(step.make_train_step(loss, optimizer))

  def at(seed, n):
    return float(
      run(state.create_state(params(), optimizer, seed).replace(step=jnp.int32(n)), BATCH)[1][
        "loss"
      ]
    )

  assert at(0, 0) == at(0, 0)
  assert len({at(0, 0), at(0, 1), at(1, 0)}) == 3


def test_every_micro_batch_draws_its_own_numbers():
  def draw(params, batch, rng):
    drawn = jax.random.uniform(rng) + 0 * params["llm"]["embedding"].sum()
    sums = dict.fromkeys(("count", "supervised", "tokens", "places"), jnp.float32(1))
    return drawn, sums | dict(hits=drawn**2)

  optimizer = optim.make_optimizer(OPTIM, params(), 10)
  run = jax.jit(step.make_train_step(draw, optimizer, accumulate=2))
  _, got = run(state.create_state(params(), optimizer, seed=0), BATCH)
  mean = float(got["loss"])
  mean_of_squares = float(got["accuracy"])
  assert mean_of_squares > mean**2 + 1e-4  # Of two equal draws, they would be the same.


def test_the_rate_in_the_metrics_is_that_of_the_update():
  _, run, made = setup(kind="lion", warmup=4)  # Lion moves every weight by the rate.
  for expected in (0.0, 0.25e-2, 0.5e-2):
    before = made.params["llm"]["embedding"]
    made, got = run(made, BATCH)
    moved = np.abs(made.params["llm"]["embedding"] - before).max()
    np.testing.assert_allclose([got["lr/all"], moved], expected, rtol=1e-3)


def test_unknown_reduction():
  with pytest.raises(ValueError, match=r"config\.optim\.reduction is 'sum'"):
    step.make_loss(MODEL, "sum")
