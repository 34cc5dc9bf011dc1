# SPDX-License-Identifier: Apache-2.0
"""Processes that plan differently all end, and say what differs and where."""

import processes
import pytest

from filax.parallel import agreement, ending

pytestmark = pytest.mark.slow


def test_the_order_of_entries_is_no_difference():
  assert agreement.digest({"a": "1", "b": "2"}) == agreement.digest({"b": "2", "a": "1"})
  assert agreement.digest({"a": "1", "b": "2"}) != agreement.digest({"a": "2", "b": "1"})


def test_equal_plans_go_on():
  for code, out, errors in processes.run("two_plans.py", "nothing"):
    assert (code, out, errors) == (0, "agreed\n", "")


@pytest.mark.parametrize(
  "part, count, texts",
  [
    (
      "media",
      3,
      [
        "process 2 (",
        "differs from process 0 (",
        "in media: ",
        "also in plan",
        "video12345.mp4 (process 0: frames=12345, process 2: cannot be read)",
        "video7.mp4 (process 0: frames=7, process 2: absent)",
      ],
    ),
    ("config", 2, ["process 1 (", "in config: config.seed (process 0: 0, process 1: 1). Give all"]),
  ],
)
def test_what_differs_is_named_on_every_process(part, count, texts):
  for code, out, errors in processes.run("two_plans.py", part, processes=count):
    assert code == ending.REFUSED and out == ""
    sentence = errors.splitlines()[-1]
    assert all(text in sentence for text in texts), errors


def test_differences_are_few_and_short():
  before = {f"file{n}": "x" * 500 for n in range(10)}
  text = agreement.differences(before, {})
  assert text.startswith("file0 (was xxx") and text.endswith("and 7 more") and len(text) < 500
  assert agreement.differences(before, dict(reversed(before.items()))) == ""
