# SPDX-License-Identifier: Apache-2.0
"""Visual dropout inside the decoder, against one sample at a time in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from parity.twins.dropout import Decoder
import pytest

from filax.models import visual_dropout
from filax.models.components import build
from filax.ops.visual_dropout import Row
from filax.parallel import mesh, zigzag
from filax.spec import dropout_stages

pytestmark = pytest.mark.slow

STAGES = ((1, "uniform", 0.75), (2, "attention", 0.25))
SAMPLES = ((3, 16, 6, (0, 4)), (2, 21, 7, (5,)), (5, 0, 4, ()))  # head, visual, tail, queries.
LENGTH, ROOM = 64, (56, 40)


def model(**changes):
  return build("llm", dict(name="qwen2", variant="tiny", dropout=STAGES) | changes)


def drawn(model, seed=0):
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 2, model.width)), jnp.zeros((1, 2), jnp.int32)
  )
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: jnp.asarray(rng.normal(0, 0.25, s.shape), jnp.float32), shapes["params"]
  )


def packed(samples=SAMPLES, rows=1):
  """(Row, keep) of equal rows that hold `samples`."""
  segments, positions, tokens = np.zeros((3, rows, LENGTH), np.int32)
  visual, queries = np.zeros((rows, LENGTH), bool), np.full((rows, 4), -1, np.int32)
  at = used = 0
  for n, (head, middle, tail, asked) in enumerate(samples, 1):
    size = head + middle + tail
    segments[:, at : at + size], positions[:, at : at + size] = n, np.arange(size)
    visual[:, at + head : at + head + middle] = True
    for query in asked:
      queries[:, used], used = at + head + middle + query, used + 1
    at += size
  tokens[:] = np.arange(LENGTH)
  row = Row(
    *map(
      jnp.asarray,
      (segments, positions, visual, queries, tokens, np.ones((rows, LENGTH), np.float32)),
    )
  )
  counts = dropout_stages.kept(
    [s[1] for s in samples], dropout_stages.parse_stages(STAGES, 3), [bool(s[3]) for s in samples]
  )
  return row, jnp.asarray(np.stack([counts] * rows))


def run(model, params, x, row, keep):
  return model.apply({"params": params}, x, row, keep, ROOM, method=visual_dropout.forward)


@pytest.mark.parametrize("positions", ["renumber", "keep"])
def test_packed_rows_equal_single_samples_in_float64(positions):
  llm = model(dropout_positions=positions)
  params, (row, keep) = drawn(llm), packed()
  x = jax.random.normal(jax.random.key(1), (1, LENGTH, llm.width))
  hidden, left = jax.jit(run, static_argnums=0)(llm, params, x, row, keep)
  twin = Decoder(params, llm)
  for n, (head, middle, _, asked) in enumerate(SAMPLES, 1):
    inside = np.flatnonzero(row.segment_ids[0] == n)
    queries = [head + middle + query for query in asked]
    want, kept = twin.run(
      x[0, inside], np.asarray(row.visual[0, inside]), queries, llm.stages, positions == "renumber"
    )
    ours = np.flatnonzero(left.segment_ids[0] == n)
    np.testing.assert_array_equal(np.asarray(left.tokens[0, ours]) - inside[0], kept[-1])
    np.testing.assert_allclose(hidden[0, ours], want, atol=1e-4, rtol=1e-4)


def test_without_stages_nothing_changes():
  llm = model(dropout="off")
  params, (row, _) = drawn(llm), packed()
  x = jax.random.normal(jax.random.key(1), (1, LENGTH, llm.width))

  @jax.jit
  def with_row(params):
    keep = jnp.zeros((1, 0, 3), jnp.int32)
    return llm.apply({"params": params}, x, row, keep, (), method=visual_dropout.forward)

  hidden, left = with_row(params)
  want, _ = jax.jit(llm.apply)({"params": params}, x, row.positions, row.segment_ids)
  np.testing.assert_array_equal(hidden, want)
  np.testing.assert_array_equal(left.segment_ids, row.segment_ids)


def test_sequence_parallel_rows_drop_the_same():
  llm = model()
  params, (row, keep) = drawn(llm), packed(rows=4)
  x = jax.random.normal(jax.random.key(1), (4, LENGTH, llm.width))

  def loss(params, x):
    hidden, left = run(llm, params, x if order is None else x[:, order], row, keep)
    real = left.segment_ids > 0
    after = zigzag.order_in_use(hidden.shape[1])
    real = real if after is None else real[:, after]
    return jnp.square(hidden * real[..., None]).sum(), left

  order = None
  (want, left), slopes = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
  layout = mesh.make_mesh(dict(data=1, fsdp=2, seq=4, tensor=1))
  with jax.set_mesh(layout):
    order = zigzag.order(LENGTH, 4)
    (have, left_too), slopes_too = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
      params, x
    )
  np.testing.assert_allclose(have, want, rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, left_too, left)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max()), slopes_too, slopes
  )


def test_choosing_passes_no_gradient():
  llm = model()
  params, (row, _) = drawn(llm), packed()
  x = jax.random.normal(jax.random.key(1), (1, LENGTH, llm.width))

  def total(p, x):
    return llm.apply({"params": p}, x, row, 1, method=visual_dropout.attention).sum()

  slopes = jax.jit(jax.grad(total, (0, 1)))(params, x)
  for slope in jax.tree.leaves(slopes):
    assert not np.asarray(slope).any()


@pytest.mark.parametrize(
  "stages, message",
  [
    (((3, "uniform", 0.5),), "stage after layer 3.*below 3"),
    (((1, "uniform", 0.5), (2, "uniform", 0.5)), "must fall"),
    (((1, "random", 0.5),), "names the kind 'random'"),
    (((1, "uniform"),), r"Write each stage as \(layer, kind, ratio\)"),
    ("1:uniform", "Write each stage as layer:kind:ratio"),
    ("some", "'some' is unknown"),
  ],
)
def test_stages_that_cannot_be(stages, message):
  with pytest.raises(ValueError, match=message):
    _ = model(dropout=stages).stages


def test_stages_may_be_written():
  assert model(dropout="1:uniform:0.75,2:attention:0.25").stages == model().stages
  assert model(dropout="1:uniform:0.75,2:attention:0.25").ranges == ((0, 1), (1, 2), (2, 3))
