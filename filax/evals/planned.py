# SPDX-License-Identifier: Apache-2.0
"""The evaluations of config.evals: their names, sources and questions."""

from collections.abc import Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.sample import Timeline
from filax.checkpoint.best import parse_metric
from filax.evals import averaging, questions, registry
from filax.evals.comparable import OWN_PROTOCOL
from filax.evals.kit import Benchmark, Example, Score, Source
from filax.parallel import agreement

_MANIFESTS = (".json", ".array_record")  # .jsonl holds .json.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True)
class PlannedEvaluation:
  """A row of config.evals."""

  name: str  # In the names of scores and folders.
  source: str  # A manifest, or a benchmark.
  every: int  # Steps.
  limit: int  # Questions; 0 = all.
  data: str  # The folder of the benchmark, or of the manifest's media.
  protocol: str  # "" = the default one.
  is_manifest: bool

  @property
  def benchmark(self) -> Benchmark:
    """The benchmark, that of manifests for a manifest."""
    return registry.find_benchmark(registry.MANIFEST if self.is_manifest else self.source)


def plan_evaluations(rows: Sequence[Sequence]) -> tuple[PlannedEvaluation, ...]:
  """The evaluations of config.evals; no file is opened.

  A name that occurs twice gets a number. Raises ValueError for an unknown benchmark or protocol, or
  a benchmark without a folder.
  """
  evaluations: list[PlannedEvaluation] = []
  names: list[str] = []
  for row in rows:
    evaluation = _plan_row(*row)
    names.append(evaluation.name)
    count = names.count(evaluation.name)
    if count > 1:
      evaluation = dataclasses.replace(evaluation, name=f"{evaluation.name}-{count}")
    evaluations.append(evaluation)
  return tuple(evaluations)


def _plan_row(
  source: str | os.PathLike, every: int, limit: int, data: str = "", protocol: str = ""
) -> PlannedEvaluation:
  """One row of config.evals. Raises ValueError naming it."""
  source = os.fspath(source)
  is_manifest = _is_manifest(source)
  if is_manifest:
    name = pathlib.PurePath(source).name.partition(".")[0]
  else:
    name = source.rpartition(":")[2]
  evaluation = PlannedEvaluation(
    name=_NOT_IN_NAMES.sub("_", name),
    source=source,
    every=every,
    limit=limit,
    data=data,
    protocol=protocol,
    is_manifest=is_manifest,
  )
  try:
    registry.find_protocol(evaluation.benchmark, protocol, "")
  except ValueError as error:
    text = str(error).replace("--protocol=", "the protocol ")
    raise ValueError(f"config.evals with {source!r}: {text}") from None
  if not is_manifest and not data:
    raise ValueError(
      f"config.evals names the benchmark {source!r} without the folder of its files. Write "
      f'("{source}", {every}, {limit}, "/folder/of/{name}").'
    )
  return evaluation


def _is_manifest(source: str) -> bool:
  """Whether a source is a path, not the name of a benchmark."""
  if registry.is_benchmark(source):
    return False
  looks_like_path = os.sep in source or any(ending in source for ending in _MANIFESTS)
  return looks_like_path or os.path.exists(source)


def read_examples(evaluation: PlannedEvaluation) -> list[Example]:
  """The questions of an evaluation, before any medium is opened.

  Raises ValueError if a file is missing or unreadable, or holds no question.
  """
  limit = evaluation.limit or None
  try:
    if evaluation.is_manifest:
      source = Source(registry.check_manifest(evaluation.source), evaluation.data)
    else:
      benchmark = evaluation.benchmark
      source = questions.benchmark_source(evaluation.data, evaluation.source, benchmark)
    return questions.read_questions(evaluation.benchmark, source, limit)
  except (ValueError, OSError) as error:
    raise ValueError(f"config.evals with {evaluation.source!r}: {error}") from error


def check_media(evaluation: PlannedEvaluation, examples: Sequence[Example]) -> None:
  """Prints how many media are missing.

  Raises ValueError if all are: the folder is another one.
  """
  media: set[Timeline] = set()
  for example in examples:
    media.update(example.media)
  missing = questions.missing_media(examples)
  if not missing:
    return
  first = one_line(missing[0])
  sentence = f"{len(missing)} media of eval/{evaluation.name} are missing, such as {first}"
  if len(missing) >= len(media):
    raise ValueError(
      f"config.evals with {evaluation.source!r}: {sentence}. Write their folder after the limit: "
      f'("{evaluation.source}", {evaluation.every}, {evaluation.limit}, "/folder").'
    )
  print(f"{sentence}: their questions will be skipped.", file=sys.stderr, flush=True)


def agree_on_schedule(evaluations: Sequence[PlannedEvaluation]) -> None:
  """Raises ValueError unless all processes evaluate the same at the same steps.

  They may keep the files in different folders.
  """
  rows = []
  for evaluation in evaluations:
    rows.append([evaluation.name, evaluation.every, evaluation.limit, evaluation.protocol])
  texts = agreement.share_texts(json.dumps(rows))
  for process, text in enumerate(texts):
    if text != texts[0]:
      raise ValueError(
        f"config.evals differs: process {process} has {text}, process 0 has {texts[0]}. Give all "
        "processes the same names, steps, limits and protocols."
      )


def agree_on_questions(evaluation: PlannedEvaluation) -> None:
  """Raises ValueError on all processes unless all read the same questions."""
  try:
    text = questions_digest(read_examples(evaluation))
    error = ""
  except ValueError as failure:
    text = error = str(failure)
  texts = agreement.share_texts(text)
  if error:
    raise ValueError(error)
  for process, other in enumerate(texts):
    if other != text:
      raise ValueError(f"process {process} reads other questions: {other}")


def questions_digest(examples: Sequence[Example]) -> str:
  """A digest of questions and answers.

  Hosts may keep the media in different folders.
  """
  digest = hashlib.sha256()
  for example in examples:
    names = []
    for timeline in example.media:
      names += [(os.path.basename(scene.media), scene.t0, scene.t1) for scene in timeline]
    parts = (example.turn, example.answer, example.references, example.options, names)
    digest.update(repr(parts).encode(errors="replace"))
  return digest.hexdigest()


def check_best(metric: str, evaluations: Sequence[PlannedEvaluation]) -> None:
  """Raises ValueError if config.best is not a score of config.evals."""
  if not metric:
    return
  name, _ = parse_metric(metric)
  _, evaluation_name, score = name.split("/", 2)
  by_name = {evaluation.name: evaluation for evaluation in evaluations}
  if evaluation_name not in by_name:
    known_names = ", ".join(by_name) or "none"
    raise ValueError(
      f"config.best={metric!r} is a score of no evaluation in config.evals, whose names are: "
      f"{known_names}."
    )
  possible = score_names(by_name[evaluation_name])
  is_group = score.startswith("by_") or score.startswith("loss/")
  if score not in possible and not is_group:
    raise ValueError(
      f"config.best={metric!r}: {evaluation_name} has no score {score!r}. Set it to "
      f"eval/{evaluation_name}/ with {', '.join(possible)}."
    )


def score_names(evaluation: PlannedEvaluation) -> list[str]:
  """The scores that an evaluation may have, without those of groups."""
  benchmark = evaluation.benchmark
  protocols = benchmark.protocols
  if evaluation.protocol:
    protocols = {evaluation.protocol: protocols[evaluation.protocol]}
  elif evaluation.is_manifest:
    protocols = {OWN_PROTOCOL: protocols[OWN_PROTOCOL]}
  one_score = Score(0.0, "A", iou=0.0, joint=False)
  names: dict[str, None] = {}
  for protocol in protocols.values():
    names |= dict.fromkeys(protocol.metric.average([one_score]))
    if protocol.set_scores is not None:
      names |= dict.fromkeys(protocol.set_scores(["a"], [["a"]]))
  if benchmark.macro:
    names |= dict.fromkeys((averaging.MICRO, averaging.MACRO))
  if evaluation.is_manifest:
    names["loss"] = None
  return list(names)
