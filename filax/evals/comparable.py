# SPDX-License-Identifier: Apache-2.0
"""Whether a score may stand beside published ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from filax.evals.kit import Benchmark, NamedProtocol

OWN_PROTOCOL = "filax"  # Prompts of this project, which no published number follows.


def reasons_against(
  benchmark: Benchmark,
  protocol_name: str,
  protocol: NamedProtocol,
  result: Mapping[str, Any],
  missing: Sequence[str],
) -> list[str]:
  """Why a result is not comparable with published numbers, a sentence each.

  missing: a sentence per annotation file that is not there.
  """
  reasons = []
  if protocol_name == OWN_PROTOCOL:
    reasons.append(
      f"The protocol {OWN_PROTOCOL} is this project's own: no published number has it."
    )
  reasons += _reasons_of_coverage(benchmark, protocol, result)
  reasons += missing
  if protocol.deviation:
    reasons.append(protocol.deviation)
  if result["blind"]:
    reasons.append("The model saw grey pictures (--blind).")
  settings = result["settings"]
  if settings["temperature"]:
    reasons.append(f"Answers were drawn at temperature {settings['temperature']:g}, not greedily.")
  wanted = protocol.max_new_tokens
  if wanted is not None and settings["max_new_tokens"] != wanted:
    reasons.append(
      f"Answers had {settings['max_new_tokens']} new tokens at most, not the protocol's {wanted}."
    )
  return reasons


def _reasons_of_coverage(
  benchmark: Benchmark, protocol: NamedProtocol, result: Mapping[str, Any]
) -> list[str]:
  """What keeps the answers from being those to all published questions."""
  reasons = []
  published = protocol.questions or benchmark.questions
  if published is None:
    reasons.append("The number of questions is not a published one.")
  elif result["questions"] != published:
    reasons.append(f"{result['questions']} of {published} questions were answered.")
  if result["limit"] is not None:
    reasons.append(f"Only the first {result['limit']} questions were asked (--limit).")
  if result["skipped"]:
    reasons.append(f"{result['skipped']} questions were skipped.")
  if result["pending"]:
    reasons.append(f"{result['pending']} answers wait for their score.")
  if result["unscored"]:
    reasons.append(f"The publisher keeps the right answers of {result['unscored']} questions.")
  if result["bad_records"]:
    reasons.append(f"{len(result['bad_records'])} records could not be read.")
  if not result["finished"]:
    reasons.append("The run has not finished.")
  return reasons
