# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of visual dropout on the host."""

import numpy as np
import pytest

from filax.spec import dropout_stages


def test_presets_are_the_papers_rows():
  assert dropout_stages.parse_stages("off", 28) == ()
  assert dropout_stages.parse_stages("uniform0_attention", 28) == (
    dropout_stages.Stage(4, "uniform", 0.75),
    dropout_stages.Stage(18, "attention", 0.25),
  )
  for name in dropout_stages.PRESETS:
    assert len(dropout_stages.parse_stages(name, 28)) <= 2


@pytest.mark.parametrize(
  ("kind", "kinds"),
  [
    ("uniform0_attention", ["uniform", "attention", "attention"]),
    ("uniform1_attention", ["uniform", "uniform", "attention"]),
    ("attention", ["attention"] * 3),
    ("uniform", ["uniform"] * 3),
  ],
)
def test_released_settings_become_stages(kind, kinds):
  stages = dropout_stages.released(kind, [8, 16, 24], [1.0, 0.5, 0.25, 0.125])
  assert stages == tuple(zip([8, 16, 24], kinds, [0.5, 0.25, 0.125], strict=True))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("uniform0_attention", [4, 18], [1, 0.5]), "one ratio more than layers"),
    (("attention", [24], [0.9, 0.5]), "the first is 1"),
    (("random", [24], [1, 0.5]), "llm_compress_type='random' is unknown"),
  ],
)
def test_bad_released_settings(arguments, message):
  with pytest.raises(ValueError, match=message):
    dropout_stages.released(*arguments)


@pytest.mark.parametrize(
  ("stages", "message"),
  [
    (((28, "uniform", 0.5),), "below 28"),  # After the last layer nothing chooses.
    (((0, "uniform", 0.5),), "must be above 0"),
    (((4, "uniform", 0.5), (4, "attention", 0.25)), "must be above 4"),
    (((4, "uniform", 0.5), (8, "attention", 0.5)), r"below 0\.5"),
    (((4, "uniform", 1.0),), r"below 1\.0"),
    (((4, "uniform", 0.0),), "above 0"),
    (((4, "random", 0.5),), "kind 'random'"),
    (((4, "uniform"),), "Write each stage as"),
    ("uniform", "is unknown. Set it to one of off"),
  ],
)
def test_bad_stages(stages, message):
  with pytest.raises(ValueError, match=message):
    dropout_stages.parse_stages(stages, 28)


def test_kept_counts_truncate_the_original_count():
  stages = dropout_stages.parse_stages("uniform0_attention", 28)
  counts = dropout_stages.kept([1024, 7, 1, 0], stages)
  np.testing.assert_array_equal(counts, [[768, 5, 0, 0], [256, 1, 0, 0]])
  np.testing.assert_array_equal(counts[0], [int(n * 0.75) for n in (1024, 7, 1, 0)])


def test_a_sample_nobody_asks_about_keeps_what_attention_would_drop():
  stages = dropout_stages.parse_stages(((2, "attention", 0.5), (4, "uniform", 0.25)), 8)
  np.testing.assert_array_equal(
    dropout_stages.kept([8, 8], stages, has_query=[True, False]), [[4, 8], [2, 2]]
  )


def test_lengths_hold_a_row_full_of_visual_tokens():
  stages = dropout_stages.parse_stages("uniform0_attention", 28)
  room = dropout_stages.lengths(9000, 8192, stages)
  assert room == (9000 - 8192 + 6144, 9000 - 8192 + 2048)
  assert dropout_stages.lengths(9000, 8192, stages, multiple=512) == (7168, 3072)
  left = 808 + dropout_stages.kept([4096, 4095, 1], stages).sum(1)
  assert dropout_stages.overflow_reason(left, room, stages) == ""
  reason = dropout_stages.overflow_reason(
    2000 + dropout_stages.kept([7000], stages).sum(1), room, stages
  )
  assert reason.startswith(
    "7250 text and kept visual tokens are left after layer 4, where rows have 6952 places (config."
  )


def test_query_positions_stand_before_supervised_runs():
  supervised = np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1], bool)
  np.testing.assert_array_equal(dropout_stages.query_positions(supervised), [2, 5, 8])
  assert len(dropout_stages.query_positions(np.zeros(4, bool))) == 0
