# SPDX-License-Identifier: Apache-2.0
"""The phases of the demo, in order.

Each phase calls the functions behind `filax train`, `evals` and `chat`, and writes its result to
the workdir. A phase whose result exists is skipped.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

from filax import files

EVALUATIONS: dict[str, dict[str, Any]] = {  # Name -> options of `evaluate`.
  "scenes": {},
  "uniform": dict(selector="uniform"),
  "blind": dict(blind=True),
}
# The same for one short scene in ever longer videos; the longest has 1,000 frames to select from.
HIDDEN_EVALUATIONS: dict[str, dict[str, Any]] = {
  "hidden_scenes": dict(frames=1000),
  "hidden_uniform": dict(selector="uniform"),
}


@dataclasses.dataclass(frozen=True)
class DemoSettings:
  """The size of a demo.

  steps: of both stages, 0 = as the config says.
  """

  videos: int = 300
  held: int = 64
  seed: int = 0
  steps: tuple[int, int] = (0, 0)


def run_demo(
  workdir: pathlib.Path, settings: DemoSettings, seconds_before: float = 0.0
) -> dict[str, Any]:
  """Runs the phases that are not done yet and returns the report.

  `seconds_before` were spent before the call. Raises ValueError if `workdir` holds a demo with
  other settings, or if training was stopped.
  """
  progress = DemoProgress(workdir, settings)
  progress.count_seconds("start", seconds_before)
  progress.run_phase("corpus", lambda: _make_corpus(workdir, settings))
  for stage in (1, 2):
    train_stage = functools.partial(_train_stage, workdir, settings, stage)
    progress.run_phase(f"stage{stage}", train_stage)
  progress.run_phase("evals", lambda: _evaluate(workdir))
  progress.run_phase("hidden", lambda: _evaluate_hidden(workdir))
  progress.run_phase("report", lambda: _write_report(workdir, progress))
  _print_line(f"Open {workdir / 'report.html'}.")
  return json.loads((workdir / "report.json").read_text())


class DemoProgress:
  """progress.json: the settings of a demo and the seconds of its phases."""

  def __init__(self, workdir: pathlib.Path, settings: DemoSettings):
    self.path = workdir / "progress.json"
    files.remove_leftovers(workdir)
    as_json = json.loads(json.dumps(dataclasses.asdict(settings)))
    self.state = dict(settings=as_json, seconds={}, done=[])
    if self.path.exists():
      self.state = _read_progress(self.path)
    if self.state["settings"] != as_json:
      raise ValueError(
        f"{workdir} holds a demo with {self.state['settings']}, not {as_json}. Choose another "
        "--workdir, or delete this one."
      )

  @property
  def seconds(self) -> Mapping[str, float]:
    """Phase -> seconds, including stopped calls."""
    return self.state["seconds"]

  def run_phase(self, name: str, work: Callable[[], None]) -> None:
    """Runs a phase unless it is done."""
    if name in self.state["done"]:
      _print_line(f"{name}: done before, in {self.seconds[name]:.0f} s")
      return
    _print_line(f"{name} ...")
    start = time.perf_counter()
    try:
      work()
      self.state["done"].append(name)
    finally:
      self.count_seconds(name, time.perf_counter() - start)
    _print_line(f"{name}: {self.seconds[name]:.0f} s")

  def count_seconds(self, name: str, seconds: float) -> None:
    """Adds seconds to a phase and writes the file."""
    self.state["seconds"][name] = self.seconds.get(name, 0.0) + seconds
    text = json.dumps(self.state, indent=2) + "\n"
    with files.write_atomically(self.path) as file:
      file.write(text.encode())


def _read_progress(path: pathlib.Path) -> dict[str, Any]:
  """The state of a demo. Raises ValueError for a damaged file."""
  try:
    state = json.loads(path.read_bytes())
    return {key: state[key] for key in ("settings", "seconds", "done")}
  except (ValueError, LookupError, TypeError, RecursionError) as error:
    raise ValueError(
      f"{path} is damaged. Delete it: the same command then goes through all phases again, and "
      "uses the results that they left."
    ) from error


def _make_corpus(workdir: pathlib.Path, settings: DemoSettings) -> None:
  from data_pipelines.synthesis import toy

  toy.corpus(workdir / "corpus", settings.videos, settings.held, settings.seed)


def _train_stage(workdir: pathlib.Path, settings: DemoSettings, stage: int) -> None:
  """Trains one stage as `filax train` does.

  Stage 2 starts from the parameters of stage 1.
  """
  from filax.configs import fila_toy
  from filax.train.signals import Interrupted, Signals
  from filax.training import run_training

  config = fila_toy.get_config(f"stage={stage},corpus={workdir / 'corpus'}")
  config.seed = settings.seed
  steps = settings.steps[stage - 1]
  if steps:
    config.steps = steps
  if stage > 1:
    config.init_from = str(workdir / f"stage{stage - 1}")
  stopped = True
  with contextlib.suppress(Interrupted), Signals() as signals:
    stopped = run_training(config, workdir / f"stage{stage}", signals=signals)["stopped"]
  if stopped:
    raise ValueError(f"Stage {stage} was stopped. The same command goes on from there.")


def _loss_records(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The records that a run logged."""
  from filax.train import metrics

  records = metrics.read_records(folder / "metrics.jsonl")
  return [record for record in records if "loss" in record]


def _evaluate(workdir: pathlib.Path) -> None:
  """Evaluates scenes, uniform frames and grey pictures on the held-out questions."""
  from filax.evals.run import evaluate
  from filax.infer.session import load

  session = load(workdir / "stage2")
  for name, options in EVALUATIONS.items():
    folder = workdir / "evals" / name
    report = evaluate(session, workdir / "corpus/held_out.json", batch=64, out=folder, **options)
    _print_line(
      f"  {name}: accuracy {report['accuracy']:.3f} on {report['questions']} questions about "
      f"{report['videos']} videos"
    )


def _evaluate_hidden(workdir: pathlib.Path) -> None:
  """Asks about short scenes in videos of up to 1,000 frames."""
  from data_pipelines.synthesis.hidden_scenes import write_hidden_scenes
  from filax.evals.run import evaluate
  from filax.infer.session import load

  manifest = write_hidden_scenes(workdir / "corpus")
  session = load(workdir / "stage2")
  for name, options in HIDDEN_EVALUATIONS.items():
    report = evaluate(session, manifest, batch=16, out=workdir / "evals" / name, **options)
    _print_line(f"  {name}: accuracy {report['accuracy']:.3f} on {report['questions']} questions")


def _write_report(workdir: pathlib.Path, progress: DemoProgress) -> None:
  """Asks sample questions, then writes report.html and report.json."""
  from filax.demo.examples import ask_samples, choose_records
  from filax.demo.page import write_page
  from filax.demo.report import report_numbers
  from filax.evals.results_folder import read_report
  from filax.infer.session import load

  start = time.perf_counter()
  session = load(workdir / "stage2")
  evals = {name: read_report(workdir / "evals" / name) for name in EVALUATIONS}
  hidden = {name: read_report(workdir / "evals" / name) for name in HIDDEN_EVALUATIONS}
  curves = [_loss_records(workdir / f"stage{stage}") for stage in (1, 2)]
  records = choose_records(workdir / "corpus/held_out.json", evals)
  samples = ask_samples(session, workdir / "corpus", records)
  first = samples[0]
  answer = first.answers["scenes"].answer
  _print_line(f"  {first.video}: {first.question} {answer} (right: {first.expected})")
  seconds = {**progress.seconds, "report": time.perf_counter() - start}
  numbers = report_numbers(workdir, evals, hidden, curves, seconds)
  write_page(workdir / "report.html", numbers, evals, hidden, curves, samples, seconds)
  (workdir / "report.json").write_text(json.dumps(numbers, indent=2) + "\n")


def _print_line(text: str) -> None:
  print(f"[demo] {text}", flush=True)
