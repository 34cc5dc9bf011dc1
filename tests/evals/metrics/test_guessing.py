# SPDX-License-Identifier: Apache-2.0
"""The expected gain of a harness that guesses."""

import pytest

from filax.evals.metrics.guessing import guess_bonus


def test_guess_bonus():
  assert guess_bonus(10, 100, 0.2) == pytest.approx(0.02)
  assert guess_bonus(10, 100, 20.0) == pytest.approx(2.0)
  assert guess_bonus(0, 0, 0.2) == 0.0


def test_guess_bonus_refuses_impossible_counts():
  with pytest.raises(ValueError, match="unparsed=3"):
    guess_bonus(3, 2, 0.2)
