# SPDX-License-Identifier: Apache-2.0
"""The results of a needle test: result.json, the published JSON, and figures."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
from importlib import metadata
import json
import os
import pathlib
from typing import Any

from data_pipelines.media import open as media_lib
from filax import files
from filax.evals.needle import contexts, figures, results
from filax.evals.needle.cells import CONTROLS, Cell
from filax.evals.needle.pictures import pictures_digest
from filax.evals.needle.protocols import incomparable_reasons
from filax.evals.needle.results import Row
from filax.evals.needle.setup import NeedleTest
from filax.evals.needle.visuals import NeedleVisuals, positions_per_group
from filax.evals.page import write_page
from filax.evals.result_fields import SCHEMA
from filax.infer import compiled, encode, prefix
from filax.infer.encode_long import weight_digests
from filax.infer.generate import PREFILL
from filax.infer.video import frame_unit

RESULT = "result.json"
TABLE = "all_accuracies.json"
AVERAGE = "avg_accuracy.txt"
PROGRAMS = (encode.EMBED, PREFILL, prefix.READ, prefix.ASK, prefix.FORCE, prefix.RESIZE)


class NeedleReport:
  """What a test is, what it cost, and what it scored."""

  def __init__(self, test: NeedleTest):
    self._test = test
    self._seconds: dict[str, float] = collections.defaultdict(float)
    self._work: dict[str, int] = collections.defaultdict(int)
    self._haystack: dict[str, Any] = {}
    self._compilations = compiled.compilations(PROGRAMS)
    self._checkpoint_hash = _digest(weight_digests(test.loaded.params))

  def identity(self) -> dict[str, Any]:
    """What must stay the same when a run is continued."""
    test = self._test
    options = test.options
    haystack = media_lib.identity(options.haystack) if options.haystack else ""
    return dict(
      benchmark=test.protocol.benchmark,
      protocol=test.protocol_name,
      lengths=list(test.lengths),
      depths=list(test.depths),
      limit=options.limit,
      seed=options.seed,
      questions=_digest([dataclasses.asdict(item) for item in test.items]),
      pictures=pictures_digest(test.pictures),
      haystack=haystack,
      checkpoint=self._checkpoint_hash,
      settings=self._settings(),
    )

  def continue_from(self, former: Mapping[str, Any]) -> None:
    """Adds the costs of the run that this one continues."""
    for name, value in former.get("work", {}).items():
      self._work[name] += value
    for name, value in former.get("seconds", {}).items():
      if name != "total":
        self._seconds[name] += value
    self._haystack = dict(former.get("haystack", {}))

  def add_seconds(
    self,
    phase: str,
    seconds: float,
  ) -> None:
    """Adds time to a phase."""
    self._seconds[phase] += seconds

  def note_haystack(self, visuals: NeedleVisuals) -> None:
    """Notes what was encoded."""
    frames = max(self._test.lengths)
    self._work["haystack_encodings"] += 1
    self._work["encoded_frames"] += visuals.real_frames
    self._haystack = dict(
      source=self._test.options.haystack or "drawn scenes",
      frames=frames,
      different_frames=min(frames, visuals.real_frames),
      tokens=visuals.place(frames),
    )

  def count_base(self, tokens: int) -> None:
    """Counts the reading of the haystack that contexts share."""
    self._work["shared_prefills"] += 1
    self._work["tokens_read"] += tokens

  def count_context(
    self,
    cell: Cell,
    size: int,
    tokens_read: int,
  ) -> None:
    """Counts a context whose prompts have `size` tokens.

    `tokens_read` of them were new.
    """
    self._work["control_prefills" if cell.control else "prefills"] += 1
    self._work["tokens_read"] += tokens_read
    self._work["tokens_without_sharing"] += size

  def result(self, rows: Sequence[Row]) -> dict[str, Any]:
    """result.json."""
    test = self._test
    tested = [row for row in rows if not row["control"]]
    multi_hop = test.protocol.multi_hop
    scores = self._scores(tested)
    metric = next(iter(scores))
    reasons = self._reasons(tested)
    total = sum(self._seconds.values())
    seconds = dict(self._seconds) | dict(total=total)
    columns = ("frames",) if multi_hop else ("frames", "depth")
    return dict(
      schema=SCHEMA,
      filax=_version(),
      benchmark=test.protocol.benchmark,
      protocol=test.protocol_name,
      protocol_version=test.protocol.version,
      note=test.protocol.note,
      comparable=not reasons,
      reasons=reasons,
      metric=metric,
      scores=scores,
      chance=self._chance(),
      total=self._question_count(),
      questions=len(tested),
      videos=self._work["prefills"],
      skipped=len(test.skipped),
      unparsed=sum(not row["parsed"] for row in tested),
      empty=sum(row["flag"] == "empty" for row in tested),
      degenerate=sum(row["flag"] == "symbols" for row in tested),
      missing=len(test.bad_media),
      skipped_questions=[dict(id=id, reason=why) for id, why in test.skipped.items()][:100],
      bad_media=dict(test.bad_media),
      bad_questions=[],
      bad_records=[],
      by={name: results.averages_by(tested, name, multi_hop) for name in columns},
      accuracy=results.mean_of(tested),
      controls=self._controls(rows),
      manifest=test.needle_file,
      checkpoint=test.loaded.processor.source,
      selector=test.loaded.processor.infer["selector"]["name"],
      frames=max(test.lengths),
      blind=False,
      lengths=list(test.lengths),
      depths=list(test.depths),
      settings=self._settings(),
      haystack=self._haystack,
      first_prompt=self._first_prompt(),
      hashes=dict(checkpoint=self._checkpoint_hash, annotations=_file_hashes(test.needle_file)),
      shows_text=True,
      work=dict(self._work),
      seconds={name: round(value, 3) for name, value in seconds.items()},
      compilations=compiled.compilations(PROGRAMS) - self._compilations,
      finished=self._is_finished(rows),
    )

  def published_table(self, rows: Sequence[Row]) -> list[dict[str, float]]:
    """all_accuracies.json of the protocol."""
    tested = [row for row in rows if not row["control"]]
    if self._test.protocol.multi_hop:
      return results.multi_hop_table(tested)
    return results.single_hop_table(tested)

  def _scores(self, tested: Sequence[Row]) -> dict[str, float | None]:
    if self._test.protocol.multi_hop:
      return results.multi_hop_scores(tested)
    return results.single_hop_scores(tested)

  def _chances(self) -> dict[str, float | None]:
    """ "id#name" of a question -> the score of guessing."""
    chances = {}
    for item in self._test.items:
      for question in item.questions:
        chances[f"{item.id}#{question.name}"] = question.chance
    return chances

  def _chance(self) -> float | None:
    """The headline's score by guessing: of chains, that both are right."""
    products = []
    for item in self._test.items:
      product = 1.0
      for question in item.questions:
        if question.chance is None:
          return None
        product *= question.chance
      products.append(product)
    return sum(products) / len(products)

  def _controls(self, rows: Sequence[Row]) -> dict[str, Any]:
    """Name of a control -> its score beside chance."""
    multi_hop = self._test.protocol.multi_hop
    reports = {}
    for name, words in CONTROLS.items():
      chosen = [row for row in rows if row["control"] == name]
      if not chosen:
        reports[name] = dict(
          shows=words,
          questions=0,
          reason="There is no other needle.",
        )
        continue
      report = results.control_report(
        chosen,
        self._chances(),
        multi_hop,
      )
      reports[name] = dict(shows=words) | report
    return reports

  def _reasons(self, tested: Sequence[Row]) -> list[str]:
    test = self._test
    reasons = incomparable_reasons(
      test.protocol,
      lengths=test.lengths,
      depths=test.depths,
      items=len(test.items),
      drawn=not test.needle_file,
      haystack=test.options.haystack,
      dropout=bool(test.loaded.model.stages),
      prompt=test.loaded.processor.data,
    )
    if len(tested) < self._question_count():
      reasons.append(f"{len(tested)} of {self._question_count()} questions are answered.")
    return reasons

  def _question_count(self) -> int:
    """The questions of all cells of the test, without controls."""
    questions = 0
    for item in self._test.items:
      questions += len(item.questions)
    return questions * len(self._test.lengths) * max(1, len(self._test.depths))

  def _is_finished(self, rows: Sequence[Row]) -> bool:
    expected = 0
    for cell in self._test.cells():
      expected += len(self._test.items[cell.item].questions)
    return len(rows) >= expected

  def _first_prompt(self) -> str:
    """The prompt of the first question, with control tokens."""
    processor = self._test.loaded.processor
    question = self._test.items[0].questions[0]
    frame = contexts.prompt_frame(
      processor,
      question.text,
      question.answer,
    )
    before = processor.tokenizer.decode(frame.before.tokens.tolist(), skip_special=False)
    after = processor.tokenizer.decode(frame.question.tokens.tolist(), skip_special=False)
    return f"{before}<video>{after}"

  def _settings(self) -> dict[str, Any]:
    """How the model was asked."""
    loaded = self._test.loaded
    layout = loaded.model.layout()
    llm = loaded.model.llm
    mesh = loaded.processor.mesh
    return dict(
      frames=max(self._test.lengths),
      fps=1.0,
      selector=loaded.processor.infer["selector"]["name"],
      tokens_per_frame=positions_per_group(layout) / layout.frames_per_group,
      needle_frames=frame_unit(loaded.model),
      resize=loaded.processor.resize,
      dropout=[list(vars(stage).values()) for stage in loaded.model.stages],
      dtype=str(llm.dtype),
      yarn=llm.yarn,
      decoder="teacher forcing, greedy",
      max_new_tokens=0,
      temperature=0.0,
      batch=1,
      mesh=None if mesh is None else dict(mesh.shape),
    )


def former_result(out: str | os.PathLike) -> dict[str, Any]:
  """result.json of a stopped run; {} without one."""
  try:
    return json.loads(pathlib.Path(out, RESULT).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}


def write_results(
  report: NeedleReport,
  rows: Sequence[Row],
  out: str | os.PathLike,
) -> None:
  """Writes all results into the folder `out`, unless it is "".

  Raises OSError.
  """
  if not out:
    return
  folder = pathlib.Path(out)
  result = report.result(rows)
  table = report.published_table(rows)
  _write_json(folder / RESULT, result)
  _write_json(folder / TABLE, table)
  scores = [entry["Score"] for entry in table]
  if not scores:
    return
  average = sum(scores) / len(scores)
  with files.write_atomically(folder / AVERAGE) as file:
    file.write(f"Average Accuracy: {average}\n".encode())
  if result["depths"]:
    with files.write_atomically(folder / figures.HEAT_MAP) as file:
      figures.draw_heat_map(table, result, file)
  else:
    with files.write_atomically(folder / figures.LINES) as file:
      figures.draw_lines(table, result, file)
  write_page(folder)


def _write_json(path: pathlib.Path, value: Any) -> None:
  with files.write_atomically(path) as file:
    file.write((json.dumps(value, indent=2) + "\n").encode())


def _file_hashes(path: str) -> dict[str, str]:
  if not path:
    return {}
  content = pathlib.Path(path).read_bytes()
  return {os.path.basename(path): hashlib.sha256(content).hexdigest()}


def _digest(value: Any) -> str:
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _version() -> str:
  """The version of FiLax; "" outside an installation."""
  try:
    return metadata.version("filax")
  except metadata.PackageNotFoundError:
    return ""
