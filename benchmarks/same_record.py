# SPDX-License-Identifier: Apache-2.0
"""Records the behaviour of a checkout: losses, programs, exports, resumed runs.

A recorder works in OUT/work: toy/ and runs/debug_corpus/ are corpora, runs/NAME/ the runs. Resumed
runs and exports come from a copy of such a folder, of this recording or of another one.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import json
import pathlib
import shutil
import tempfile
from typing import Any

from benchmarks.same_commands import FILAX, Checkout
from benchmarks.same_programs import is_train_step, normal_hlo, normal_stablehlo
from benchmarks.same_store import Recording

STEPS = 20
MORE_STEPS = 5
TOPOLOGY = "v5p:4x4x4"
DEBUG_CORPUS = "runs/debug_corpus"
MEASURED = {  # Keys of a log record whose values differ between runs.
  "tokens_per_second",
  "frames_per_second",
  "seconds_per_step",
  "mfu",
  "eta_seconds",
  "compilations",
  "goodput",
}
MEASURED_FAMILIES = ("host/", "seconds/")
RUNS = {  # Name -> the config, and flags besides.
  "fila_toy_1": ("fila_toy.py:stage=1,corpus=toy", ()),
  "fila_toy_2": ("fila_toy.py:stage=2,corpus=toy", ("--config.init_from=runs/fila_toy_1",)),
  "vcf_toy": ("vcf_toy.py:stage=3,corpus=toy", ()),
  "fila_stage4_debug": ("fila_stage4.py:debug", ()),
  "vcf_stage3_debug": ("vcf_stage3.py:debug", ()),
  "vcf_stage3_dropout": ("vcf_stage3.py:debug,dropout=uniform0_attention", ()),
}
STAGES = tuple(f"{model}_stage{stage}" for model in ("fila", "vcf") for stage in (1, 2, 3, 4))
EXPORTS = (  # (run, format, dtype)
  ("fila_toy_2", "hf", "same"),
  ("fila_toy_2", "hf", "bfloat16"),
  ("fila_toy_2", "hf-remote", "same"),
  ("fila_toy_2", "llava", "same"),
  ("fila_toy_2", "qwen2", "same"),
  ("vcf_toy", "videochat-flash", "same"),
)
QUESTIONS = "What shape is on red?\nWhat colour is on blue?\n"
VIDEO = "toy/videos/held_out-000.mp4"
ASKED = (  # (run, flags of `filax chat`)
  ("fila_toy_2", ("--max-new-tokens", "12")),
  ("fila_toy_2", ("--selector", "uniform", "--temperature", "1", "--seed", "3", "--top-p", "0.9")),
  ("vcf_toy", ("--dropout", "1:uniform:0.75,2:attention:0.25", "--max-new-tokens", "12")),
)


@dataclasses.dataclass(frozen=True)
class Recorder:
  """Writes the facts of a checkout to a recording.

  source: the recording whose corpora and runs are used unless they are created again.
  """

  checkout: Checkout
  store: Recording
  source: pathlib.Path

  @property
  def work(self) -> pathlib.Path:
    return self.store.folder / "work"

  def train(self, with_programs: bool) -> None:
    """Records `corpus`, `losses` and, on request, `hlo`.

    They come from the first steps of every run.
    """
    self.make_corpora()
    for name, (config, flags) in RUNS.items():
      shutil.rmtree(self.work / "runs" / name, ignore_errors=True)
      argv = self._train_command(name, config, STEPS, *flags)
      if with_programs:
        self.store.add_fact(f"hlo/{name}", self._train_with_programs(name, argv))
      else:
        self.checkout.run(self.work, name, argv)
      folder = self.work / "runs" / name
      self._write_run("losses", name, folder, first=1)
    for corpus in ("toy", DEBUG_CORPUS):
      text = file_digests(self.work / corpus)
      self.store.add_fact(f"corpus/{pathlib.Path(corpus).name}", text)

  def make_corpora(self) -> None:
    """Copies the corpora of `source`, or creates the toy corpus."""
    self.work.mkdir(parents=True, exist_ok=True)
    if self.source != self.store.folder:
      for corpus in ("toy", DEBUG_CORPUS):
        shutil.rmtree(self.work / corpus, ignore_errors=True)
        shutil.copytree(self.source / "work" / corpus, self.work / corpus)
    elif not (self.work / "toy").exists():
      argv = ["-m", "data_pipelines.synthesis.toy", "--out", "toy", "--videos", "24", "--held", "6"]
      self.checkout.run(self.work, "toy", argv)

  def _train_command(self, name: str, config: str, steps: int, *flags: str) -> list[str]:
    return [
      *FILAX,
      "train",
      f"--config={self.checkout.config(config)}",
      f"--workdir=runs/{name}",
      f"--config.steps={steps}",
      f"--config.checkpoint_every={steps}",
      "--config.log_every=1",
      "--config.data.cache=",
      *flags,
    ]

  def _train_with_programs(self, name: str, argv: list[str]) -> str:
    """Trains and returns the optimised HLO of the train step.

    There is one program for each shape of rows.
    """
    with tempfile.TemporaryDirectory(dir=self.work) as folder:
      dump = f"--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_large_constants"
      self.checkout.run(self.work, name, argv, flags=f"{dump} --xla_dump_hlo_module_re=.*")
      programs = []
      for path in sorted(pathlib.Path(folder).glob("*after_optimizations.txt")):
        text = path.read_text()
        if is_train_step(text):
          programs.append(normal_hlo(text))
    return "\n".join(programs)

  def lower(self) -> None:
    """Records `stablehlo`: the full-size train steps of all stages.

    They are lowered for a slice of TPUs.
    """
    self.work.mkdir(parents=True, exist_ok=True)
    script = str(pathlib.Path(__file__).with_name("same_lower.py"))
    for stage in STAGES:
      with tempfile.TemporaryDirectory(dir=self.work) as folder:
        plan = ["plan", f"--config={self.checkout.config(f'{stage}.py')}", f"--topology={TOPOLOGY}"]
        argv = [script, folder, *plan, "--json"]
        self.checkout.run(self.work, f"lower-{stage}", argv, accepted=(0, 1))
        for path in sorted(pathlib.Path(folder).glob("*.mlir")):
          self.store.add_fact(f"stablehlo/{stage}.{path.stem}", normal_stablehlo(path.read_text()))

  def export(self) -> None:
    """Records `exports` and `code`: every file of every format.

    The arrays after the conversion back are recorded, too.
    """
    folder = self._copy("export")
    for run, form, dtype in EXPORTS:
      name = f"{run}-{form}-{dtype}"
      out = f"exports/{name}"
      argv = [
        *FILAX,
        "convert",
        "to",
        f"--checkpoint=runs/{run}",
        f"--format={form}",
        f"--dtype={dtype}",
      ]
      self.checkout.run(folder, f"to-{name}", [*argv, f"--out={out}"])
      report = conversion_report(folder / out)
      self.store.add_fact(f"exports/{name}.report", report)
      self.store.add_fact(f"exports/{name}.files", file_digests(folder / out, without=".py"))
      self.store.add_fact(f"code/{name}", file_digests(folder / out, only=".py"))
      back = f"back/{name}"
      argv = [*FILAX, "convert", "from", f"--source={out}", f"--out={back}"]
      self.checkout.run(folder, f"from-{name}", argv)
      self.store.add_fact(f"exports/{name}.back", arrays(newest_step(folder / back)))

  def resume(self) -> None:
    """Records `resume`: answers of saved runs, and their next steps."""
    folder = self._copy("resume")
    for number, (run, flags) in enumerate(ASKED):
      argv = [*FILAX, "chat", f"--checkpoint=runs/{run}", f"--video={VIDEO}", "--json", *flags]
      text = self.checkout.run(folder, f"chat-{number}", argv, questions=QUESTIONS)
      self.store.add_fact(f"resume/chat-{number}-{run}", without_seconds(text))
    argv = [
      *FILAX,
      "evals",
      "--checkpoint=runs/fila_toy_2",
      "--manifest=toy/held_out.json",
      "--limit=16",
    ]
    text = self.checkout.run(folder, "evals", [*argv, "--json", "--out=evals"])
    self.store.add_fact("resume/evals", without_seconds(text))
    self.store.add_fact(
      "resume/evals.answers", without_seconds((folder / "evals/answers.jsonl").read_text())
    )
    for name, (config, flags) in RUNS.items():
      argv = self._train_command(name, config, STEPS + MORE_STEPS, *flags)
      self.checkout.run(folder, f"resume-{name}", argv)
      self._write_run("resume", name, folder / "runs" / name, first=STEPS + 1)

  def _copy(self, name: str) -> pathlib.Path:
    """Copies the working folder of `source`.

    The runs in the copy may be changed.
    """
    folder = self.store.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(self.source / "work", folder)
    return folder

  def _write_run(self, part: str, name: str, folder: pathlib.Path, first: int) -> None:
    """Records a run: its log from step `first` on, its newest checkpoint."""
    step = newest_step(folder)
    lines = log_records(folder / "metrics.jsonl", first)
    self.store.add_fact(f"{part}/{name}", "\n".join([*lines, ""]))
    record = json.loads((step / "data" / "metadata").read_text())
    self.store.add_fact(f"{part}/{name}.record", json.dumps(record, indent=1, sort_keys=True))
    self.store.add_fact(f"{part}/{name}.arrays", arrays(step))


def log_records(path: pathlib.Path, first: int) -> Iterator[str]:
  """The records of a metrics.jsonl from step `first` on.

  Measured values are replaced by "*".
  """
  for line in path.read_text().splitlines():
    record = json.loads(line)
    is_measured = [key for key in record if key in MEASURED or key.startswith(MEASURED_FAMILIES)]
    measured = dict.fromkeys(is_measured, "*")
    if record["step"] >= first:
      yield json.dumps(record | measured)


def without_seconds(text: str) -> str:
  """JSON, or JSON lines, without durations and digests of files with dates."""
  decoder = json.JSONDecoder(object_hook=_drop_seconds)
  kept = []
  position = 0
  while position < len(text):
    value, end = decoder.raw_decode(text, position)
    kept.append(json.dumps(value, indent=1))
    position = end + len(text[end:]) - len(text[end:].lstrip())
  return "\n".join(kept) + "\n"


def _drop_seconds(record: dict[str, Any]) -> dict[str, Any]:
  dropped = ("idle_share", "hashes")
  return {k: value for k, value in record.items() if "second" not in k and k not in dropped}


def conversion_report(folder: pathlib.Path) -> str:
  """The text of a conversion's report, without measurements.

  Removes the report from its folder.
  """
  path = folder / "conversion_report.json"
  report = json.loads(path.read_text())
  path.unlink()
  for key in ("seconds", "peak_memory_bytes", "versions"):
    report.pop(key)
  return json.dumps(report, indent=1) + "\n"


def file_digests(folder: pathlib.Path, only: str = "", without: str = "") -> str:
  """One line for each file: sha256, bytes and path.

  only, without: endings of file names.
  """
  lines = []
  for path in sorted(folder.rglob("*")):
    if not path.is_file() or not path.name.endswith(only):
      continue
    if without and path.name.endswith(without):
      continue
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    lines.append(f"{digest} {len(content):>10} {path.relative_to(folder)}\n")
  return "".join(lines)


def newest_step(folder: pathlib.Path) -> pathlib.Path:
  """The last checkpoint of a run folder."""
  steps = (folder / "checkpoints").glob("[0-9]*")
  return max(steps, key=lambda path: int(path.name))


def arrays(step: pathlib.Path) -> str:
  """One line for each array of a checkpoint: sha256, dtype, shape, path."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(step / "state").tree
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  restored = handler.restore(step / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy))
  lines = []
  for path, value in jax.tree_util.tree_flatten_with_path(restored)[0]:
    array = np.asarray(value)
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    lines.append(f"{digest} {array.dtype} {array.shape} {jax.tree_util.keystr(path)}\n")
  return "".join(lines)
