# SPDX-License-Identifier: Apache-2.0
"""Packing within budgets, orders that depend on seed and epoch alone, batches of one shape."""

import pickle
import types

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.packing import plan
from data_pipelines.packing import planner as planning
from data_pipelines.packing.demand import Demand, SampleDemand, capacity
from data_pipelines.packing.planner import Planner
from filax.spec import RowShape

SIZES = st.lists(
  st.tuples(st.integers(1, 60), st.sampled_from([0, 3, 6, 12]), st.integers(0, 2)),
  min_size=1,
  max_size=60,
)
SHAPES = (RowShape(0, 0, 20, 8), RowShape(12, 2, 64, 4))


class fixed:
  """The same demand in every epoch, from its columns."""

  def __init__(self, sizes):
    self.demand = Demand.from_columns(np.array(sizes, np.int64))

  def __call__(self, epoch):
    return self.demand


@given(sizes=SIZES, batch=st.integers(1, 5), packing=st.booleans(), seed=st.integers(0, 9))
def test_rows_keep_every_budget_and_hold_every_sample(sizes, batch, packing, seed):
  sizes = np.array(sizes)
  planner = Planner(fixed(sizes), SHAPES, batch=batch, seed=seed, packing=packing)
  seen = []
  for k in range(planner.row_count(0)):
    row = planner.row(k)
    shape, taken = SHAPES[row.shape], sizes[list(row.samples)]
    assert (taken.sum(0) <= [shape.length, shape.frames, shape.images]).all()
    assert 1 <= len(row.samples) <= (shape.segments if packing else 1)
    assert planner.row(k - k % batch).shape == row.shape  # A global batch is of one shape.
    seen += row.samples
  assert planner.row_count(0) % batch == 0
  assert set(seen) == set(range(len(sizes)))
  distinct = {planner.row(k).samples for k in range(planner.row_count(0))}
  assert sum(map(len, distinct)) == len(sizes)  # Only whole rows come twice, to fill a batch.
  per_shape = np.bincount([planner.row(k).shape for k in range(planner.row_count(0))], minlength=2)
  once = np.bincount(
    [
      next(planner.row(k).shape for k in range(planner.row_count(0)) if planner.row(k).samples == s)
      for s in distinct
    ],
    minlength=2,
  )
  assert (per_shape - once < batch).all()


def test_rows_that_were_packed_together_are_not_in_one_batch():
  """Packing fills the rows one after another, so neighbours have samples of similar lengths."""
  sizes = np.random.default_rng(0).integers(10, 60, (200, 1)) * [1, 0, 0]
  epoch = Planner(fixed(sizes), SHAPES[1:], batch=4, seed=0).epoch(0)
  are_neighbours = (np.diff(epoch.order.reshape(-1, 4)) == 1).all(1)
  assert len(are_neighbours) > 20
  assert not are_neighbours.any()


def test_epochs_of_other_lengths_have_other_numbers_of_rows():
  """Without packing, too: in the second epoch, half of the samples need the larger shape."""
  lengths = [[10, 10, 10, 10], [10, 10, 40, 40]]
  demands = [Demand.from_columns(np.array([[n, 0, 0] for n in epoch])) for epoch in lengths]
  planner = Planner(demands.__getitem__, SHAPES, batch=4, seed=0, packing=False, vary=True)
  assert [planner.row_count(epoch) for epoch in (0, 1)] == [4, 8]


@given(sizes=SIZES)
def test_numbers_run_across_epochs_and_any_one_can_be_asked_first(sizes):
  def make():
    return Planner(fixed(sizes), SHAPES, batch=2, seed=1)

  planner = make()
  total = sum(planner.row_count(e) for e in range(4))
  rows = [planner.row(n) for n in range(total)]
  assert [r.epoch for r in rows] == [e for e in range(4) for _ in range(planner.row_count(e))]
  assert make().row(total - 1) == rows[-1]
  assert pickle.loads(pickle.dumps(planner)).row(total // 2) == rows[total // 2]


def test_order_depends_on_seed_and_epoch():
  sizes = np.tile([10, 3, 0], (40, 1))

  def rows(seed, epoch):
    planner = Planner(fixed(sizes), SHAPES, batch=2, seed=seed)
    return tuple(
      planner.row(planner.first_row(epoch) + k).samples for k in range(planner.row_count(epoch))
    )

  assert rows(0, 0) == rows(0, 0)
  assert len({rows(0, 0), rows(0, 1), rows(1, 0)}) == 3


def test_sizes_that_vary_are_asked_for_every_epoch():
  asked = []

  def sizes(epoch):
    asked.append(epoch)
    return Demand.from_columns(np.tile([10 + 30 * (epoch % 2), 3, 0], (8, 1)))

  planner = Planner(sizes, SHAPES, batch=1, seed=0, vary=True)
  assert planner.row_count(0) == 2 and planner.row_count(1) == 8 and sorted(set(asked)) == [0, 1]


def test_packing_fills_rows():
  rng = np.random.default_rng(0)
  frames = 4 * rng.integers(16, 128, 3000)
  sizes = np.stack([16 * frames + rng.integers(20, 800, 3000), frames, 0 * frames], axis=1)
  demand = Demand.from_columns(sizes)
  shape = RowShape(1024, 0, 32768, 64)
  planner = Planner(fixed(sizes), (shape,), batch=8, seed=0)
  filled = planning.fill(planner.epoch(0), demand, (shape,))
  assert filled["frame_fill"] > 0.94 and filled["samples_per_row"] > 3
  length, width = planning.suggest_row(demand, 1024)
  assert width == 1024 and length % 128 == 0
  tight = RowShape(width, 0, length, 64)
  narrow = Planner(fixed(sizes), (tight,), batch=8, seed=0)
  both = planning.fill(narrow.epoch(0), demand, (tight,))
  assert both["token_fill"] > 0.9 and both["frame_fill"] > 0.9


def test_what_fits_nowhere_is_left_out():
  sizes = np.array([[10, 0, 0], [65, 0, 0], [10, 15, 0], [10, 0, 3], [21, 0, 0]])
  shapes = planning.smallest_shape(Demand.from_columns(sizes), SHAPES)
  np.testing.assert_array_equal(shapes, [0, -1, -1, -1, 1])
  planner = Planner(fixed(sizes), SHAPES, batch=1, seed=0)
  np.testing.assert_array_equal(planner.epoch(0).left_out, [1, 2, 3])
  with pytest.raises(ValueError, match=r"No sample fits.*config\.data\.rows"):
    Planner(fixed(sizes[1:4]), SHAPES, batch=1, seed=0)
  with pytest.raises(ValueError, match=r"config\.data\.train"):
    Planner(fixed(np.zeros((0, 3), int)), SHAPES, batch=1, seed=0)


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ((), "1 to 3"),
    (((1, 2, 3),), "4 numbers"),
    (((0, 0, 8, 1),) * 4, "1 to 3"),
    (((0, 0, 0, 1),), "1 or more"),
    (((-3, 0, 8, 1),), "0 or more"),
    (((95, 0, 8, 1),), r"config\.model\.selector\.size.*96"),
  ],
)
def test_rows_that_cannot_be_name_the_knob(rows, message):
  with pytest.raises(ValueError, match=rf"config\.data\.rows.*{message}"):
    planning.row_shapes(rows, 3)


DROPPED = RowShape(12, 2, 64, 4, queries=4, stages=2, room=(48, 32))
COLUMNS = np.array(
  [[64, 12, 2, 48, 32, 4], [65, 0, 0, 1, 1, 0], [9, 0, 0, 9, 33, 0], [9, 0, 0, 9, 9, 5]]
)


def test_columns_of_a_demand_are_its_fields():
  samples = []
  for tokens, frames, images, *after, queries in COLUMNS.tolist():
    samples.append(SampleDemand(tokens, frames, images, after, queries))
  demand = Demand.of_samples(samples, stages=2)
  np.testing.assert_array_equal(demand.columns(), COLUMNS)
  np.testing.assert_array_equal(Demand.from_columns(COLUMNS).columns(), COLUMNS)


def test_columns_without_dropout_are_three():
  columns = COLUMNS[:, :3]
  demand = Demand.from_columns(columns)
  assert demand.stages == 0
  assert not demand.queries.any()
  np.testing.assert_array_equal(demand.columns(), columns)


def test_samples_fit_if_no_column_exceeds_the_capacity():
  demand = Demand.from_columns(COLUMNS)
  expected = (COLUMNS <= capacity(DROPPED)).all(1)
  np.testing.assert_array_equal(demand.fits(DROPPED), expected)
  np.testing.assert_array_equal(demand.fits(DROPPED), [True, False, False, False])


def test_samples_may_fit_but_for_their_queries_or_stages():
  demand = Demand.from_columns(COLUMNS)
  np.testing.assert_array_equal(demand.fits_but_queries(DROPPED), [True, False, False, True])
  np.testing.assert_array_equal(demand.fits_undropped(DROPPED), [True, False, True, True])


@pytest.mark.parametrize(
  "epochs, steps", [(1, 5), (1.1, 6), (2.2, 11), (0.25, 2), (np.float64(2.2), 11)]
)
def test_a_share_of_an_epoch_is_exact(epochs, steps):
  """Ten rows an epoch, two a step. In binary, 2.2 - 2 is more than a fifth."""
  rows = types.SimpleNamespace(first_row=lambda epoch: 10 * epoch)
  ten_rows = types.SimpleNamespace(planner=rows, batch=2, row_count=lambda epoch: 10)
  assert plan.Plan.step_count(ten_rows, epochs) == steps


def test_a_share_of_an_epoch_is_of_the_rows_of_that_epoch():
  rows = types.SimpleNamespace(first_row=[0, 10, 22, 42].__getitem__)
  growing = types.SimpleNamespace(planner=rows, batch=2, row_count=[10, 12, 20].__getitem__)
  assert plan.Plan.step_count(growing, 2.5) == 16
