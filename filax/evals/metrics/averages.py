# SPDX-License-Identifier: Apache-2.0
"""The average of metrics that have one number.

Groups are those of filax.evals.averaging.
"""

from collections.abc import Sequence

from filax.evals.kit import Score


def named_mean(scores: Sequence[Score], name: str) -> dict[str, float]:
  """The mean value of all scores under a name; {} without scores."""
  if not scores:
    return {}
  total = sum(score.value for score in scores)
  return {name: total / len(scores)}
