# SPDX-License-Identifier: Apache-2.0
"""The first letter from A to E.

This is lmms-eval's rule of LongVideoBench since 2024-11-13.
"""

from collections.abc import Sequence

from filax.evals.metrics.extractors.first_letter import letter_after_prefixes

PREFIXES = (
  "The best answer is",
  "The correct answer is",
  "The answer is",
  "The answer",
  "The best option is",
  "The correct option is",
  "Best answer:",
  "Best option:",
)


def prefix_letter(text: str, options: Sequence[str] = ()) -> str | None:
  """The first letter from A to E, whatever the number of options.

  None where the published code draws a letter.
  """
  del options
  return letter_after_prefixes(text, PREFIXES, "ABCDE")
