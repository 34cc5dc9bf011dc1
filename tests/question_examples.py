# SPDX-License-Identifier: Apache-2.0
"""Questions for tests of metrics, without media."""

from typing import Any

from data_pipelines.sample import Turn
from filax.evals.kit import Example

COLOURS = ("red", "blue", "green", "a grey one")


def question_example(answer: str, options=(), *, text: str = "Which one?", **keys: Any) -> Example:
  """An example with this right answer; keys are further fields of Example."""
  turn = Turn("user", (text,))
  return Example(id="1", turn=turn, answer=answer, options=tuple(options), **keys)
