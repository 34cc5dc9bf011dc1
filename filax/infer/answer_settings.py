# SPDX-License-Identifier: Apache-2.0
"""The settings of answers, and their ranges."""

import math

MOST_ANSWERS = 128  # To one question, as in OpenAI's API: each holds keys and values of its own.


def check_answer_settings(
  max_new_tokens: int,
  temperature: float,
  top_p: float,
  top_k: int,
  min_p: float = 0.0,
  repetition_penalty: float = 1.0,
  answers: int = 1,
) -> None:
  """Raises ValueError naming an invalid setting."""
  if max_new_tokens < 1:
    raise ValueError(f"max_new_tokens={max_new_tokens} leaves nothing to say. Set it to 1 or more.")
  if not temperature >= 0:
    raise ValueError(f"temperature={temperature} must not be negative; 0 is greedy.")
  if not 0 < top_p <= 1:
    raise ValueError(f"top_p={top_p} must lie in (0, 1]; 1 keeps every token.")
  if top_k < 0:
    raise ValueError(f"top_k={top_k} must not be negative; 0 keeps every token.")
  if not 0 <= min_p <= 1:
    raise ValueError(f"min_p={min_p} must lie in [0, 1]; 0 keeps every token.")
  if not 0 < repetition_penalty < math.inf:
    raise ValueError(f"repetition_penalty={repetition_penalty} must be above 0; 1 changes nothing.")
  if not 1 <= answers <= MOST_ANSWERS:
    raise ValueError(f"answers={answers} must lie in 1 to {MOST_ANSWERS}.")
