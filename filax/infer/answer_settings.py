# SPDX-License-Identifier: Apache-2.0
"""The settings of answers, and their ranges."""

from typing import Any

from filax.setting_kinds import check_value, number, whole_number

MOST_ANSWERS = 128  # To one question, as in OpenAI's API: each holds keys and values of its own.
MOST_HEAT = 1000.0  # Larger temperatures and penalties overflow float32.
_KINDS = dict(
  max_new_tokens=whole_number(1),
  temperature=number(0, MOST_HEAT),
  top_p=number(0, 1, above=True),
  top_k=whole_number(0),
  min_p=number(0, 1),
  repetition_penalty=number(0, MOST_HEAT, above=True),
  answers=whole_number(1, MOST_ANSWERS),
  seed=whole_number(-(2**63), 2**63 - 1),
)


def check_answer_settings(**settings: Any) -> None:
  """Raises ValueError naming the first setting that does not fit.

  settings: some of those of filax.infer.generate.stream.
  """
  for name, value in settings.items():
    check_value(name, value, _KINDS[name])
