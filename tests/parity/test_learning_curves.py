# SPDX-License-Identifier: Apache-2.0
"""FiLax, one ulp away and trained by PyTorch: the same losses, step by step."""

import jax
import numpy as np
import pytest

from benchmarks.learning import curves, recipe, report, verdict
from filax.checkpoint.tree import flatten_tree

pytestmark = pytest.mark.slow

STEPS = {"fila": 20, "flash": 4}


@pytest.fixture(scope="module", params=STEPS)
def compared(request, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / "learning"
  folder.mkdir(exist_ok=True)
  steps = STEPS[request.param]
  prepared = recipe.prepare_recipe(request.param, folder, steps, videos=12)
  return prepared, curves.compare_runs(prepared, steps)


def test_the_twin_stays_near_until_rounding_has_grown(compared):
  _, comparison = compared
  apart = curves.differences(comparison.curves)
  judged = verdict.judge(apart["twin"], apart["control"])
  assert judged.near <= verdict.NEAR, judged.lines()
  assert 0 < apart["twin"].max(), "The twin is no other program."


def test_both_learn(compared):
  _, comparison = compared
  for run in curves.RUNS:
    losses = comparison.curves[run]["loss"]
    assert losses[-1] < losses[0]


def test_the_gradient_norms_before_clipping_are_the_same(compared):
  _, comparison = compared
  for run in ("control", "twin"):
    first = comparison.curves[run]["grad_norm"][:3]
    ours = comparison.curves["filax"]["grad_norm"][:3]
    np.testing.assert_allclose(first, ours, rtol=1e-3)


def test_all_parts_are_trained_on_packed_rows(compared):
  prepared, _ = compared
  assert min(prepared.setup.optimizer.rates.values()) > 0
  with prepared.pipeline.batches() as batches:
    assert next(batches)["segment_ids"].max() > 1


def test_the_control_differs_in_one_weight(compared):
  prepared, _ = compared
  params = prepared.first.params
  nudged, before, after = curves.one_ulp_away(params, curves.WEIGHT)
  differing = jax.tree.map(lambda a, b: int((np.asarray(a) != np.asarray(b)).sum()), params, nudged)
  differing = flatten_tree(differing)
  assert differing.pop(curves.WEIGHT) == 1
  assert not any(differing.values())
  assert after == np.nextafter(np.float32(before), np.float32(np.inf))


def test_the_report_has_a_table_and_a_picture(compared, tmp_path):
  _, comparison = compared
  apart = curves.differences(comparison.curves)
  judged = verdict.judge(apart["twin"], apart["control"])
  paths = report.write_report(tmp_path, "curves", comparison, judged, dict(title="Curves"))
  assert [path.suffix for path in paths] == [".json", ".md", ".png"]
  table = (tmp_path / "curves.md").read_text()
  assert "| 1 |" in table and "Verdict: the twin" in table
