# SPDX-License-Identifier: Apache-2.0
"""Rows for visual dropout: query positions, kept counts, and lengths that always fit."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.packing import plan_report, planner
from data_pipelines.packing.demand import Demand, capacity
from filax.spec import RowShape, dropout_stages
from filax.testing import corpora

STAGES = dropout_stages.parse_stages(((1, "uniform", 0.75), (2, "attention", 0.25)), 3)
DROPS = dataclasses.replace(corpora.LAYOUT, stages=STAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def rows(pipe):
  build = pipe.materialise()
  return [(row, build(row)) for row in map(pipe.row, range(pipe.plan.row_count(0)))]


@pytest.mark.parametrize("asks", ["released", "answers"])
def test_rows_say_what_is_dropped_and_who_asks(folder, asks):
  pipe = corpora.open_pipeline(
    folder, layout=dataclasses.replace(DROPS, queries=asks), rows=((12, 2, 384, 4),)
  )
  (shape,) = pipe.plan.row_shapes
  assert shape.room == dropout_stages.room(shape, DROPS) and shape.stages == 2 and shape.queries
  demand = pipe.plan.planner.demand(0)
  for plan, row in rows(pipe):
    asked = [q for q in row["queries"] if q >= 0]
    for segment in range(1, len(plan.samples) + 1):
      inside = np.flatnonzero(row["segment_ids"] == segment)
      visual = int((row["visual_index"][inside] >= 0).sum())
      own = [q for q in asked if q in inside]
      np.testing.assert_array_equal(
        row["keep"][:, segment - 1], [int(visual * 0.75), int(visual * 0.25)]
      )
      number = plan.samples[segment - 1]
      assert demand.tokens[number] == len(inside)
      left = len(inside) - visual + row["keep"][:, segment - 1]
      np.testing.assert_array_equal(demand.tokens_after[number], left)
      learnt = row["loss_mask"][inside] > 0  # Of the next token.
      starts = inside[learnt & ~np.insert(learnt[:-1], 0, False)]
      if asks == "released":
        assert set(own) == set(starts) - {inside[0]} | ({inside[0]} & set(own))
      else:
        assert len(own) == 1
        words = pipe.plan.tokenizer.decode(row["tokens"][own[0] - 2 : own[0] + 1].tolist(), False)
        assert words.endswith("assistant\n")
    left = [
      (row["visual_index"][row["segment_ids"] > 0] < 0).sum() + row["keep"][n].sum()
      for n in range(2)
    ]
    assert dropout_stages.overflow_reason(left, shape.room, STAGES) == ""


def test_without_dropout_rows_and_plan_are_as_ever(folder):
  plain = corpora.open_pipeline(folder)
  (shape,) = plain.plan.row_shapes
  assert dataclasses.astuple(shape) == (12, 2, 224, 4, 0, 0, ())
  assert plain.materialise()(plain.row(0))["queries"].shape == (0,)
  assert (
    plain.fingerprint
    != corpora.open_pipeline(folder, layout=DROPS, rows=((12, 2, 384, 4),)).fingerprint
  )


def test_stages_and_queries_are_part_of_the_fingerprint(folder):
  def make_(**changes):
    return corpora.open_pipeline(
      folder, layout=dataclasses.replace(DROPS, **changes), rows=((12, 2, 384, 4),)
    ).fingerprint

  assert len({make_(), make_(stages=STAGES[:1]), make_(queries="answers")}) == 3


def test_a_sample_that_leaves_too_much_is_listed_with_its_reason(folder):
  rows = ((12, 2, 70, 4),)  # Half of it may be visual, which leaves little room for text.
  pipe = corpora.open_pipeline(folder, layout=DROPS, rows=rows, too_long="skip")
  assert dropout_stages.room(RowShape(*rows[0]), DROPS)[1] < 48
  assert len(pipe.plan.report["no_room"]) == len(pipe.plan.report["too_long"]) > 0
  assert "text and kept visual tokens are left after layer" in pipe.plan.report["no_room"][0]
  with pytest.raises(ValueError, match=r"where rows have .* places"):
    corpora.open_pipeline(folder, layout=DROPS, rows=rows, too_long="error")


def test_the_reason_of_one_sample_looks_at_no_other(monkeypatch):
  """Of ten million samples, a hundred thousand may be left out: each of them has a reason."""
  (shape,) = planner.with_dropout([RowShape(12, 2, 64, 4)], DROPS, Demand.zeros(1, 2))
  columns = [[64, 12, 2, 64, 32, 0], [65, 0, 0, 1, 1, 0], [9, 0, 0, 9, 9, 0]]
  looked_at = []
  fits = Demand.fits_undropped

  def counting(demand, row):
    looked_at.append(len(demand))
    return fits(demand, row)

  monkeypatch.setattr(Demand, "fits_undropped", counting)
  demand = Demand.from_columns(np.array(columns * 1000))
  reasons = [plan_report.no_room_after_dropout(demand, n, shape, STAGES) for n in range(3)]
  assert [bool(reason) for reason in reasons] == [True, False, False]
  assert looked_at == [1, 1, 1]


def test_packing_keeps_the_budgets_of_every_stage():
  rng = np.random.default_rng(0)
  visual, text = rng.integers(0, 40, 50), rng.integers(5, 20, 50)
  kept = dropout_stages.kept(visual, STAGES)
  sizes = np.stack(
    [visual + text, visual * 0 + 3, visual * 0, *(text + kept), rng.integers(1, 6, 50)], axis=1
  )
  base = RowShape(36, 0, 160, 8)
  demand = Demand.from_columns(sizes)
  (shape,) = planner.with_dropout([base], DROPS, demand)
  row = planner.pack(demand, shape)
  for n in range(row.max() + 1):
    assert (sizes[row == n].sum(0) <= capacity(shape)).all()


def test_an_unknown_kind_of_queries_names_the_knob(folder):
  with pytest.raises(ValueError, match=r"config\.model\.llm\.dropout_queries='all'"):
    corpora.open_pipeline(folder, layout=dataclasses.replace(DROPS, queries="all"))
