# SPDX-License-Identifier: Apache-2.0
"""Configs that were read from JSON."""

from filax.checkpoint.tuples import as_tuples


def test_lists_of_json_become_tuples():
  config = {"a": [1, [2]], "b": {"c": []}}
  assert as_tuples(config) == {"a": (1, (2,)), "b": {"c": ()}}
