# SPDX-License-Identifier: Apache-2.0
"""FiLax, one ulp away and trained by PyTorch: the same losses, step by step."""

import numpy as np
import pytest

from benchmarks.learning import curves, recipe, report, verdict
from benchmarks.learning.ours import one_ulp_away
from filax.checkpoint.tree import flatten_tree

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

STEPS = {"fila": 20, "flash": 3}
MODELS = ("fila", pytest.param("flash", marks=pytest.mark.long))


@pytest.fixture(scope="module", params=MODELS)
def compared(request, tmp_path_factory):
  """(recipe, comparison) of a short run."""
  return _compare(request.param, tmp_path_factory.getbasetemp() / "learning")


def _compare(model, folder):
  folder.mkdir(exist_ok=True)
  steps = STEPS[model]
  prepared = recipe.prepare_recipe(model, folder, steps, rows=1, videos=4)
  return prepared, curves.compare_runs(prepared, steps)


def test_the_twin_stays_near_until_rounding_has_grown(compared):
  _, comparison = compared
  for run, judged in curves.judge_twins(comparison.curves).items():
    assert judged.near <= verdict.NEAR, judged.lines(run)
    # Few steps may have the same losses to the last bit, but not the same gradients, too.
    assert comparison.curves[run] != comparison.curves[curves.OURS], f"{run} is no other program."


def test_both_learn(compared):
  _, comparison = compared
  for run in comparison.curves.values():
    losses = run["loss"]
    assert losses[-1] < losses[0]


def test_the_gradient_norms_before_clipping_are_the_same(compared):
  _, comparison = compared
  ours = comparison.curves[curves.OURS]["grad_norm"][:3]
  for run in comparison.curves.values():
    np.testing.assert_allclose(run["grad_norm"][:3], ours, rtol=1e-4)


def test_all_parts_are_trained_on_packed_rows(compared):
  prepared, _ = compared
  assert min(prepared.setup.optimizer.rates.values()) > 0
  with prepared.pipeline.batches() as batches:
    assert next(batches)["segment_ids"].max() > 1


def test_the_control_differs_in_one_weight(compared):
  prepared, comparison = compared
  params = flatten_tree(prepared.first.params)
  nudged, nudge = one_ulp_away(prepared.first.params, curves.WEIGHT)
  assert nudge == comparison.nudge
  assert nudge.after == np.nextafter(np.float32(nudge.before), np.float32(np.inf))
  for path, values in flatten_tree(nudged).items():
    differing = int((np.asarray(values) != np.asarray(params[path])).sum())
    assert differing == (path == nudge.path), path


def test_the_report_has_a_table_and_a_picture(compared, tmp_path):
  _, comparison = compared
  verdicts = curves.judge_twins(comparison.curves)
  paths = report.write_curves(tmp_path, "curves", comparison, verdicts, dict(title="Curves"))
  assert [path.suffix for path in paths] == [".json", ".md", ".png"]
  table = (tmp_path / "curves.md").read_text()
  assert "| 1 |" in table and "agrees" in table
