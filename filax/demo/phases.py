# SPDX-License-Identifier: Apache-2.0
"""The phases of the demo, in order. Each calls what `filax train`, `evals` and `chat` call, leaves
its result in the workdir, and is skipped where that result is."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any

from filax import files, shipped_configs

RUNS = {  # Name of an evaluation -> how the model is asked.
  "scenes": {},
  "uniform": dict(selector="uniform"),
  "blind": dict(blind=True),
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """How large a demo is. steps: of both stages, 0 = as the config says."""

  videos: int = 300
  held: int = 64
  seed: int = 0
  steps: tuple[int, int] = (0, 0)


def run(workdir: pathlib.Path, settings: Settings, started: float = 0.0) -> dict[str, Any]:
  """Does what is not done yet and returns the report; `started` seconds were spent before.

  Raises ValueError if `workdir` holds a demo of other settings, or training was stopped.
  """
  progress = Progress(workdir, settings)
  progress.add("start", started)
  progress.phase("corpus", lambda: _corpus(workdir, settings))
  for stage in (1, 2):
    progress.phase(f"stage{stage}", lambda stage=stage: _train(workdir, settings, stage))
  progress.phase("evals", lambda: _evaluate(workdir))
  progress.phase("report", lambda: _report(workdir, progress))
  _say(f"Open {workdir / 'report.html'}.")
  return json.loads((workdir / "report.json").read_text())


class Progress:
  """progress.json: the settings of a demo, and the seconds that each finished phase took."""

  def __init__(self, workdir: pathlib.Path, settings: Settings):
    self.path = workdir / "progress.json"
    files.remove_leftovers(workdir)
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    self.state = dict(settings=wanted, seconds={}, done=[])
    if self.path.exists():
      self.state = _read_progress(self.path)
    if self.state["settings"] != wanted:
      raise ValueError(
        f"{workdir} holds a demo with {self.state['settings']}, not {wanted}. Choose another "
        "--workdir, or delete this one."
      )

  @property
  def seconds(self) -> Mapping[str, float]:
    """Phase -> seconds, calls that were stopped included."""
    return self.state["seconds"]

  def phase(self, name: str, work: Callable[[], None]) -> None:
    """Runs a phase unless it is done."""
    if name in self.state["done"]:
      _say(f"{name}: done before, in {self.seconds[name]:.0f} s")
      return
    _say(f"{name} ...")
    start = time.perf_counter()
    try:
      work()
      self.state["done"].append(name)
    finally:
      self.add(name, time.perf_counter() - start)
    _say(f"{name}: {self.seconds[name]:.0f} s")

  def add(self, name: str, seconds: float) -> None:
    """Counts seconds to a phase and writes the file."""
    self.state["seconds"][name] = self.seconds.get(name, 0.0) + seconds
    text = json.dumps(self.state, indent=2) + "\n"
    with files.write_atomically(self.path) as file:
      file.write(text.encode())


def _read_progress(path: pathlib.Path) -> dict[str, Any]:
  """The state of a demo. Raises ValueError for a file that holds none."""
  try:
    state = json.loads(path.read_bytes())
    return {key: state[key] for key in ("settings", "seconds", "done")}
  except (ValueError, LookupError, TypeError, RecursionError) as error:
    raise ValueError(
      f"{path} is damaged. Delete it: the same command then goes through all phases, and what they "
      "left is found again."
    ) from error


def _corpus(workdir: pathlib.Path, settings: Settings) -> None:
  from data_pipelines.synthesis import toy

  toy.corpus(workdir / "corpus", settings.videos, settings.held, settings.seed)


def _train(workdir: pathlib.Path, settings: Settings, stage: int) -> None:
  """Trains one stage as `filax train` does; stage 2 starts from the parameters of stage 1."""
  from filax.train.run import train
  from filax.train.signals import Interrupted, Signals

  config = shipped_configs.load_module("fila_toy").get_config(
    f"stage={stage},corpus={workdir / 'corpus'}"
  )
  config.seed = settings.seed
  if steps := settings.steps[stage - 1]:
    config.steps = steps
  if stage > 1:
    config.init_from = str(workdir / f"stage{stage - 1}")
  stopped = True
  with contextlib.suppress(Interrupted), Signals() as signals:
    stopped = train(config, str(workdir / f"stage{stage}"), signals)["stopped"]
  if stopped:
    raise ValueError(f"Stage {stage} was stopped. The same command goes on from there.")


def curve(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The records that a run logged."""
  from filax.train import metrics

  return list(metrics.read_records(folder / "metrics.jsonl"))


def _evaluate(workdir: pathlib.Path) -> None:
  """Asks all held-out questions of scenes, of uniform frames, and of grey pictures."""
  from filax.evals.run import evaluate
  from filax.infer.session import load

  model, params = load(workdir / "stage2")
  folder = workdir / "evals"
  folder.mkdir(exist_ok=True)
  for name, options in RUNS.items():
    found = evaluate(model, params, workdir / "corpus/held_out.json", batch=64, **options)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    _say(
      f"  {name}: accuracy {found['accuracy']:.3f} on {found['questions']} questions about "
      f"{found['videos']} videos"
    )


def _report(workdir: pathlib.Path, progress: Progress) -> None:
  """Some answers as `filax chat` gives them, then report.html and report.json."""
  from filax.demo import examples, page, report
  from filax.infer.session import load

  start = time.perf_counter()
  model, params = load(workdir / "stage2")
  evals = {name: json.loads((workdir / f"evals/{name}.json").read_text()) for name in RUNS}
  curves = [curve(workdir / f"stage{stage}") for stage in (1, 2)]
  records = examples.choose(workdir / "corpus/held_out.json", evals)
  shown = examples.ask(model, params, workdir / "corpus", records)
  first = shown[0]
  _say(f"  {first.video}: {first.question} {first.told['scenes'].answer} (right: {first.expected})")
  seconds = {**progress.seconds, "report": time.perf_counter() - start}
  numbers = report.numbers(workdir, evals, curves, seconds)
  page.write(workdir / "report.html", numbers, evals, curves, shown, seconds)
  (workdir / "report.json").write_text(json.dumps(numbers, indent=2) + "\n")


def _say(text: str) -> None:
  print(f"[demo] {text}", flush=True)
