# SPDX-License-Identifier: Apache-2.0
"""Steps in a row without a supervised token end a run, with the reason."""

import pytest

from filax.train.supervision import STEPS, NothingToLearn, Supervision

IDLE = {"supervised": 0.0, "num_bad": 0.0}


@pytest.mark.parametrize(
  "bad, reason",
  [
    (3.0, rf"media of {3 * STEPS} of their samples cannot be read, see quarantine\.jsonl"),
    (0.0, r"config\.data\.labels"),
  ],
)
def test_idle_steps_in_a_row_end_the_run(bad, reason):
  supervision = Supervision()
  for number in range(8, 8 + STEPS - 1):
    supervision.step(number, IDLE | {"num_bad": bad})
  with pytest.raises(NothingToLearn, match=f"Steps 8 to {7 + STEPS} had no .*{reason}"):
    supervision.step(7 + STEPS, IDLE | {"num_bad": bad})


def test_one_supervised_step_between_is_enough():
  supervision = Supervision()
  for number in range(5 * STEPS):
    supervision.step(number, IDLE | {"supervised": float(number % STEPS == 0)})
