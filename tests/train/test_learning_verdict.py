# SPDX-License-Identifier: Apache-2.0
"""How the distance of a twin is judged by that of a control."""

import numpy as np
import pytest

from benchmarks.learning.verdict import allowed_distance, judge

CONTROL = np.array([0, 1e-6, 2e-4, 1e-4, 1e-2])


def test_a_twin_within_both_bounds_agrees():
  verdict = judge(np.array([1e-6, 9e-4, 5e-4, 5e-4, 2e-2]), CONTROL)
  assert verdict.agrees
  assert verdict.control_passed_at == 3
  assert verdict.near == 9e-4 and verdict.far == 2e-2
  assert verdict.times == pytest.approx(2.5)


def test_before_the_control_has_passed_the_bound_is_fixed():
  assert not judge(np.array([2e-3, 0, 0, 0, 0]), CONTROL).agrees


def test_afterwards_the_bound_is_the_largest_distance_of_the_control_so_far():
  assert judge(np.array([0, 0, 0, 5e-4, 0]), CONTROL).agrees
  assert not judge(np.array([0, 0, 0, 7e-4, 0]), CONTROL).agrees


def test_a_control_that_stays_near_bounds_every_step():
  verdict = judge(np.array([1e-5, 5e-4]), np.array([0.0, 1e-5]))
  assert verdict.agrees and verdict.control_passed_at is None
  assert "stays within" in verdict.lines("twin")[0]
  assert not judge(np.array([1e-5, 2e-3]), np.array([0.0, 1e-5])).agrees


def test_a_loss_that_is_not_a_number_disagrees():
  assert not judge(np.array([0, np.nan]), np.array([0, 1e-6])).agrees
  assert not judge(np.array([0, np.nan]), np.array([0, 1e-3])).agrees


def test_the_allowed_distance_is_what_is_judged():
  allowed = allowed_distance(CONTROL)
  np.testing.assert_allclose(allowed, [1e-3, 1e-3, 6e-4, 6e-4, 3e-2])
  assert judge(allowed, CONTROL).agrees
  for step in range(len(allowed)):
    twin = np.zeros_like(allowed)
    twin[step] = allowed[step] * 1.01
    assert not judge(twin, CONTROL).agrees
