# SPDX-License-Identifier: Apache-2.0
"""The result of an evaluation, as result.json holds it (filax/evals/README.md)."""

from collections.abc import Sequence
import importlib.metadata
from typing import Any

from data_pipelines.sample import Timeline
from filax.evals import averaging
from filax.evals.account import Account
from filax.evals.comparable import reasons_against
from filax.evals.evaluation import Evaluation
from filax.evals.metrics import degenerate
from filax.evals.metrics.guessing import guess_bonus
from filax.evals.result_fields import SCHEMA
from filax.evals.rows import Row
from filax.evals.settings_record import described_settings

LISTED = 100  # Skipped questions that are listed.


class NothingScored(ValueError):
  """No question could be scored.

  `report` lists the reasons.
  """

  def __init__(self, report: dict[str, Any]):
    self.report = report
    reasons = [*report["bad_questions"], *report["bad_media"].values()]
    super().__init__(
      f"None of the {report['skipped']} questions of {report['manifest']} could be scored; the "
      f"first reason: {reasons[0]}"
    )


def build_result(
  evaluation: Evaluation, rows: Sequence[Row], account: Account, batch: int
) -> dict[str, Any]:
  """The result of the answers so far."""
  benchmark = evaluation.benchmark
  protocol = evaluation.protocol
  processor = evaluation.loaded.processor
  options = evaluation.options
  source = evaluation.source
  result: dict[str, Any] = dict(
    schema=SCHEMA,
    filax=filax_version(),
    benchmark=evaluation.name,
    protocol=evaluation.protocol_name,
    protocol_version=protocol.version,
    note=protocol.report_note,
    comparable=False,
    reasons=[],
    metric=protocol.metric.headline,
    macro_column=benchmark.macro if protocol.macro else "",
    scores=averaging.all_scores(benchmark, protocol, rows),
    accuracy=averaging.mean_score(rows),
    chance=benchmark.chance,
    total=len(evaluation.examples),
    **_counts(evaluation, rows, account),
    bad_media=account.bad_media,
    bad_questions=account.bad_questions,
    bad_records=[str(bad) for bad in source.report.bad],
    by=averaging.scores_by(benchmark, protocol.metric, rows),
    manifest=source.data,
    checkpoint=processor.source,
    selector=processor.infer["selector"]["name"],
    frames=processor.sampling.get("frames"),
    blind=options.blind,
    limit=options.limit,
    settings=described_settings(evaluation.loaded, evaluation.settings, batch),
    first_prompt=account.first_prompt if benchmark.shows_text else "",
    hashes=evaluation.hashes,
    shows_text=benchmark.shows_text,
    seconds={phase: round(seconds, 3) for phase, seconds in account.seconds.items()},
    idle_share=account.idle_share,
    compilations=account.compilations,
    finished=account.finished,
  )
  if benchmark.chance is not None and result["unparsed"]:
    result["guess_bonus"] = guess_bonus(result["unparsed"], result["questions"], benchmark.chance)
  if account.finished:
    result["scores"] |= averaging.set_scores(protocol, rows)
  result["reasons"] = reasons_against(
    benchmark, evaluation.protocol_name, protocol, result, source.missing
  )
  result["comparable"] = not result["reasons"]
  return result


def _counts(evaluation: Evaluation, rows: Sequence[Row], account: Account) -> dict[str, Any]:
  """How many questions had which fate."""
  flags = [row["flag"] for row in rows]
  done = {row["id"] for row in rows} | set(account.skipped)
  videos: set[Timeline] = set()
  for example in evaluation.examples:
    if example.id in done:
      videos.update(example.media)
  listed = list(account.skipped.items())[:LISTED]
  return dict(
    questions=len(rows),
    videos=len(videos),
    skipped=len(account.skipped),
    unscored=len(rows) - len(averaging.scored_rows(rows)),
    unparsed=sum(not row["parsed"] and not row.get("pending") for row in rows),
    pending=sum(bool(row.get("pending")) for row in rows),
    empty=flags.count(degenerate.EMPTY),
    degenerate=flags.count(degenerate.SYMBOLS) + flags.count(degenerate.REPEATS),
    missing=len(evaluation.missing),
    skipped_questions=[dict(id=id, reason=reason) for id, reason in listed],
  )


def filax_version() -> str:
  """The installed version of FiLax; "" if it is not installed."""
  try:
    return importlib.metadata.version("filax")
  except importlib.metadata.PackageNotFoundError:
    return ""
