# SPDX-License-Identifier: Apache-2.0
"""Packing within budgets, orders that depend on seed and epoch alone, batches of one shape."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.packing import planner as planning
from data_pipelines.packing.planner import Planner
from filax.spec import RowShape

SIZES = st.lists(
  st.tuples(st.integers(1, 60), st.sampled_from([0, 3, 6, 12]), st.integers(0, 2)),
  min_size=1,
  max_size=60,
)
SHAPES = (RowShape(0, 0, 20, 8), RowShape(12, 2, 64, 4))


class fixed:
  """The same sizes in every epoch."""

  def __init__(self, sizes):
    self.sizes = np.array(sizes, np.int64)

  def __call__(self, epoch):
    return self.sizes


@given(sizes=SIZES, batch=st.integers(1, 5), packing=st.booleans(), seed=st.integers(0, 9))
def test_rows_keep_every_budget_and_hold_every_sample(sizes, batch, packing, seed):
  sizes = np.array(sizes)
  planner = Planner(fixed(sizes), SHAPES, batch=batch, seed=seed, packing=packing)
  seen = []
  for k in range(planner.rows(0)):
    row = planner.row(k)
    shape, taken = SHAPES[row.shape], sizes[list(row.samples)]
    assert (taken.sum(0) <= [shape.length, shape.frames, shape.images]).all()
    assert 1 <= len(row.samples) <= (shape.segments if packing else 1)
    assert planner.row(k - k % batch).shape == row.shape  # A global batch is of one shape.
    seen += row.samples
  assert planner.rows(0) % batch == 0
  assert set(seen) == set(range(len(sizes)))
  distinct = {planner.row(k).samples for k in range(planner.rows(0))}
  assert sum(map(len, distinct)) == len(sizes)  # Only whole rows come twice, to fill a batch.
  per_shape = np.bincount([planner.row(k).shape for k in range(planner.rows(0))], minlength=2)
  once = np.bincount(
    [
      next(planner.row(k).shape for k in range(planner.rows(0)) if planner.row(k).samples == s)
      for s in distinct
    ],
    minlength=2,
  )
  assert (per_shape - once < batch).all()


@given(sizes=SIZES)
def test_numbers_run_across_epochs_and_any_one_can_be_asked_first(sizes):
  make = lambda: Planner(fixed(sizes), SHAPES, batch=2, seed=1)
  planner = make()
  total = sum(planner.rows(e) for e in range(4))
  rows = [planner.row(n) for n in range(total)]
  assert [r.epoch for r in rows] == [e for e in range(4) for _ in range(planner.rows(e))]
  assert make().row(total - 1) == rows[-1]
  assert pickle.loads(pickle.dumps(planner)).row(total // 2) == rows[total // 2]


def test_order_depends_on_seed_and_epoch():
  sizes = np.tile([10, 3, 0], (40, 1))

  def rows(seed, epoch):
    planner = Planner(fixed(sizes), SHAPES, batch=2, seed=seed)
    return tuple(planner.row(planner.first(epoch) + k).samples for k in range(planner.rows(epoch)))

  assert rows(0, 0) == rows(0, 0)
  assert len({rows(0, 0), rows(0, 1), rows(1, 0)}) == 3


def test_sizes_that_vary_are_asked_for_every_epoch():
  asked = []

  def sizes(epoch):
    asked.append(epoch)
    return np.tile([10 + 30 * (epoch % 2), 3, 0], (8, 1))

  planner = Planner(sizes, SHAPES, batch=1, seed=0, vary=True)
  assert planner.rows(0) == 2 and planner.rows(1) == 8 and sorted(set(asked)) == [0, 1]


def test_packing_fills_rows():
  rng = np.random.default_rng(0)
  frames = 4 * rng.integers(16, 128, 3000)
  sizes = np.stack([16 * frames + rng.integers(20, 800, 3000), frames, 0 * frames], axis=1)
  shape = RowShape(1024, 0, 32768, 64)
  planner = Planner(fixed(sizes), (shape,), batch=8, seed=0)
  filled = planning.fill(planner.epoch(0), sizes, (shape,))
  assert filled["frame_fill"] > 0.94 and filled["samples_per_row"] > 3
  length, width = planning.suggest(sizes, 1024)
  assert width == 1024 and length % 128 == 0
  tight = RowShape(width, 0, length, 64)
  both = planning.fill(Planner(fixed(sizes), (tight,), batch=8, seed=0).epoch(0), sizes, (tight,))
  assert both["token_fill"] > 0.9 and both["frame_fill"] > 0.9


def test_what_fits_nowhere_is_left_out():
  sizes = np.array([[10, 0, 0], [65, 0, 0], [10, 15, 0], [10, 0, 3], [21, 0, 0]])
  np.testing.assert_array_equal(planning.smallest(sizes, SHAPES), [0, -1, -1, -1, 1])
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


def test_fingerprint_sees_every_fact():
  base = dict(seed=0, sizes=np.arange(6).reshape(2, 3), tokenizer=b"abc", rows=((1, 2),))
  prints = {
    planning.fingerprint(**base | change)
    for change in (
      {},
      dict(seed=1),
      dict(sizes=np.arange(6).reshape(3, 2)),
      dict(tokenizer=b"abd"),
      dict(rows=((1, 3),)),
      dict(sizes=np.arange(6.0).reshape(2, 3)),
    )
  }
  assert len(prints) == 6 and planning.fingerprint(**base) in prints
