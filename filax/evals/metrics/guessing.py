# SPDX-License-Identifier: Apache-2.0
"""The expected effect of guessing where an answer was not understood."""


def guess_bonus(unparsed: int, questions: int, chance: float) -> float:
  """The expected gain of a harness that draws letters.

  `chance` is the score of guessing; the result has its unit (fraction or percent). lmms-eval draws
  for LongVideoBench, EgoSchema and NExT-QA; FiLax counts such answers as wrong. Raises ValueError
  for counts that cannot be.
  """
  if not 0 <= unparsed <= questions:
    raise ValueError(f"unparsed={unparsed} is not between 0 and questions={questions}.")
  if not questions:
    return 0.0
  return unparsed / questions * chance
