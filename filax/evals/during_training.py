# SPDX-License-Identifier: Apache-2.0
"""Evaluation during training: config.evals as a hook of the run.

The parameters stay where the step left them; questions are answered on the mesh that trains. A
failure is reported in one sentence, counted in eval/failed, and training continues.
"""

from collections.abc import Callable, Mapping, Sequence
import json
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree

from data_pipelines.text import tokenizers
from filax.checkpoint import storage
from filax.checkpoint.store import on_one_process, say
from filax.evals import planned, scores, teacher_forced
from filax.evals.planned import PlannedEvaluation
from filax.evals.run import evaluate
from filax.evals.teacher_forced import ALL, HeldOutRows
from filax.infer.processor import Processor
from filax.infer.session import Session
from filax.models.components import build_video_lm
from filax.parallel import agreement
from filax.train import averages
from filax.train.hooks import Hook, RunFacts
from filax.train.state import TrainState
from filax.train.workdir import local_folder

FOLDER = "evals"  # Below the workdir: evals/<step>/<name>/.
MEDIA = "media"  # Facts of the media, and a list of those that cannot be read.
RESULT = "result.json"
ANSWERS = "answers.jsonl"
LONGEST = 500  # Characters of a message.
FAILED = "eval/failed"  # Evaluations that failed since the start.

Result = dict[str, Any]


def evaluation_hooks(config: Any) -> list[Hook]:
  """The hooks of config.evals, checked: names, protocols, files and config.best.

  config: a ConfigDict. Reads the annotations. Raises ValueError in one sentence.
  """
  evaluations = planned.plan_evaluations(config.get("evals", ()))
  planned.check_best(config.get("best", ""), evaluations)
  for evaluation in evaluations:
    planned.check_media(evaluation, planned.read_examples(evaluation))
  return [TrainingEvaluations(evaluations)] if evaluations else []


class TrainingEvaluations(Hook):
  """Evaluates the live parameters, or their average, after some steps."""

  def __init__(self, evaluations: Sequence[PlannedEvaluation]):
    self._evaluations = tuple(evaluations)
    self._rows: dict[str, HeldOutRows] = {}  # Name of a manifest -> its packed rows.
    self._results: dict[str, Result] = {}  # Results of the newest step.
    self._failed = 0

  def begin(self, run: RunFacts) -> None:
    """Reads the manifests, and removes results of steps that the run repeats."""
    self._run = run
    self._folder = epath.Path(run.workdir) / FOLDER
    config = run.config
    self._model = build_video_lm(config["model"], config["infer"]["selector"])
    tokenizer = tokenizers.load_tokenizer(config["data"]["tokenizer"])
    self._processor = Processor(tokenizer, config["data"], config["infer"], run.setup.mesh)
    planned.agree_on_schedule(self._evaluations)
    on_one_process(self._remove_repeated)
    losses = teacher_forced.jitted_losses(config, run.setup)
    setup = run.setup
    self._answering_params = averages.make_answering_params(setup.optimizer, setup.like)
    for evaluation in self._evaluations:
      if evaluation.is_manifest:
        self._open_rows(evaluation, losses)

  def wants_state(self, number: int) -> bool:
    return any(self._is_due(evaluation, number) for evaluation in self._evaluations)

  def lacks_scores(self, number: int) -> bool:
    if number != self._run.first or not number:
      return False
    return bool(agreement.from_first(lambda: self._due_without_result(number)))

  def _due_without_result(self, number: int) -> str:
    """The name of an evaluation that lacks a due result.

    "" without one.
    """
    for evaluation in self._evaluations:
      result = self._folder / str(number) / evaluation.name / RESULT
      if self._is_due(evaluation, number) and not result.exists():
        return evaluation.name
    return ""

  def evaluate(self, number: int, state: TrainState) -> dict[str, float]:
    self._results = {}
    step_scores: dict[str, float] = {}
    params = self._answering_params(state)
    for evaluation in self._evaluations:
      if self._is_due(evaluation, number):
        step_scores |= self._scores(evaluation, number, params)
    if self._failed:
      step_scores[FAILED] = float(self._failed)
    return step_scores

  def record_scores(self, number: int, scores: Mapping[str, float]) -> None:
    """Writes the results: a result that exists has its line in metrics.jsonl."""
    if jax.process_index():
      return
    try:
      for name, result in self._results.items():
        write_result(self._folder / str(number) / name, result)
    except OSError as error:
      say(f"The answers of step {number} cannot be written: {error}.")

  def _is_due(self, evaluation: PlannedEvaluation, number: int) -> bool:
    return number % evaluation.every == 0 or number == self._run.steps

  def _scores(self, evaluation: PlannedEvaluation, number: int, params: PyTree) -> dict[str, float]:
    """The scores of one evaluation; fewer if a part of it fails."""
    session = Session(self._model, params, self._processor)
    batch = self._run.config["evals_batch"]
    label = f"{evaluation.name} after step {number}"
    result = self._attempt(label, lambda: answer_questions(session, evaluation, batch)) or {}
    losses: dict[str, float] = {}
    if evaluation.name in self._rows:
      rows = self._rows[evaluation.name]
      losses = self._attempt(f"the loss of {label}", lambda: rows.mean_losses(params)) or {}
    if result:
      by_kind = {kind: loss for kind, loss in losses.items() if kind != ALL}
      self._results[evaluation.name] = result | dict(
        checkpoint=f"{self._run.workdir}/checkpoints/{number}",
        step=number,
        loss=losses.get(ALL),
        loss_by_kind=by_kind,
      )
    return scores.named_scores(evaluation.name, result, losses)

  def _attempt(self, label: str, work: Callable[[], Any]) -> Any:
    """The result of some work; None if it failed on any process."""
    error = ""
    result = None
    try:
      result = work()
    except Exception as failure:  # Whatever fails, training continues.
      error = f"{failure}" or type(failure).__name__
    for process, text in enumerate(agreement.share_outcomes(error)):
      if text:
        self._failed += 1
        where = f" (process {process})" if jax.process_count() > 1 else ""
        say(f"The evaluation {label} failed{where}, training goes on: {_one_line(text)}")
        return None
    return result

  def _open_rows(self, evaluation: PlannedEvaluation, losses: Callable) -> None:
    """Plans the rows of a manifest; prints why there are none."""
    run = self._run
    error = ""
    fingerprint = ""
    index = local_folder(run.workdir) / FOLDER / MEDIA / evaluation.name
    try:
      rows = HeldOutRows(run.config, run.setup, evaluation, index, losses)
      fingerprint = rows.plan.fingerprint
    except ValueError as failure:
      error = f"{failure}"
    if len(set(agreement.share_texts(fingerprint))) > 1:
      raise ValueError(
        f"config.evals: the processes read different questions from {evaluation.source}. Give all "
        "of them the same files."
      )
    if error:
      say(f"There will be no eval/{evaluation.name}/loss: {_one_line(error)}")
      return
    self._rows[evaluation.name] = rows
    if rows.left_out:
      say(
        f"eval/{evaluation.name}/loss leaves out {rows.left_out} conversations that are longer "
        "than config.data.rows, or that the chat template cannot write."
      )

  def _remove_repeated(self) -> None:
    """Removes the results of steps after the first one of this start."""
    if not self._folder.exists():
      return
    for path in self._folder.iterdir():
      if path.name.isdigit() and int(path.name) > self._run.first:
        path.rmtree()


def answer_questions(session: Session, evaluation: PlannedEvaluation, batch: int) -> Result:
  """Asks the questions of an evaluation: the result with its answers.

  The one place that knows how evaluations are run. All processes of the mesh call it together.
  Raises ValueError if there is nothing to ask, or nothing could be scored.
  """
  planned.agree_on_questions(evaluation)
  folders: dict[str, Any] = (
    dict(root=evaluation.data) if evaluation.is_manifest else dict(data=evaluation.data)
  )
  return evaluate(
    session,
    evaluation.source,
    protocol=evaluation.protocol,
    allow_missing=True,  # Media that vanish are counted.
    limit=evaluation.limit or None,
    batch=batch,
    threads=session.processor.data["threads"],
    progress=False,
    **folders,
  )


def write_result(folder: epath.Path, result: Result) -> None:
  """Writes answers.jsonl, then result.json. Raises OSError."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps(row) + "\n" for row in result["answers"]]
  storage.write_whole(folder / ANSWERS, "".join(lines).encode())
  rest = dict(result)
  del rest["answers"]
  storage.write_whole(folder / RESULT, json.dumps(rest, indent=2).encode() + b"\n")


def _one_line(text: str) -> str:
  """The beginning of a message; that of a full device has pages."""
  return " ".join(text.split())[:LONGEST]
