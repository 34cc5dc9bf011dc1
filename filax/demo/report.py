# SPDX-License-Identifier: Apache-2.0
"""report.json: the figures of a demo, and their targets."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

from data_pipelines.synthesis.shapes import CHOICES


def report_numbers(
  workdir: pathlib.Path,
  evals: Mapping[str, Mapping],
  hidden: Mapping[str, Mapping],
  curves: Sequence[Sequence[Mapping]],
  seconds: Mapping[str, float],
) -> dict[str, Any]:
  """The figures of report.json.

  They come from the evaluations (scenes, uniform, blind; and those of short scenes hidden in long
  videos), the training curves and the seconds of each phase so far.
  """
  scenes = evals["scenes"]
  uniform = evals["uniform"]
  train_seconds = seconds.get("stage1", 0.0) + seconds.get("stage2", 0.0)
  return dict(
    accuracy=scenes["accuracy"],
    accuracy_uniform=uniform["accuracy"],
    accuracy_short_scenes=accuracy_of_kind(scenes, "/short"),
    accuracy_short_uniform=accuracy_of_kind(uniform, "/short"),
    accuracy_hidden_scenes=hidden["hidden_scenes"]["accuracy"],
    accuracy_hidden_uniform=hidden["hidden_uniform"]["accuracy"],
    accuracy_blind=evals["blind"]["accuracy"],
    chance=chance_accuracy(scenes["answers"]),
    questions=scenes["questions"],
    videos=scenes["videos"],
    train_seconds=round(train_seconds, 1),
    total_seconds=round(sum(seconds.values()), 1),
    steps=sum(curve[-1]["step"] for curve in curves),
    frames_per_second=round(mean_speed(curves), 1),
    checkpoint=str(workdir / "stage2"),
  )


def accuracy_of_kind(evaluation: Mapping, part: str) -> float:
  """Accuracy over the questions whose kind contains `part`."""
  scores = [answer["score"] for answer in evaluation["answers"] if part in answer["kind"]]
  return sum(scores) / len(scores) if scores else 0.0


def chance_accuracy(answers: Sequence[Mapping]) -> float:
  """The expected accuracy of guessing among each question's valid answers."""
  chances = []
  for answer in answers:
    kind, _, _ = answer["kind"].partition("/")
    chances.append(1 / CHOICES[kind])
  return sum(chances) / len(chances)


def mean_speed(curves: Sequence[Sequence[Mapping]]) -> float:
  """Frames per second of training, compilation left out."""
  frames = 0.0
  total_seconds = 0.0
  for curve in curves:
    step_before = 0
    for record in curve:
      seconds = record["seconds_per_step"] * (record["step"] - step_before)
      frames += record["frames_per_second"] * seconds
      total_seconds += seconds
      step_before = record["step"]
  return frames / total_seconds


def check_report(path: pathlib.Path) -> str:
  """The figures in one line.

  Raises ValueError naming every missed target.
  """
  if not path.exists():
    raise ValueError(f"There is no {path}. Run filax demo --workdir {path.parent} first.")
  report = json.loads(path.read_text(encoding="utf-8"))
  missed = missed_bars(report)
  if missed:
    raise ValueError(f"The demo did not reach its targets: {'; '.join(missed)}.")
  return (
    f"accuracy {report['accuracy']:.3f} (uniform {report['accuracy_uniform']:.3f}, blind "
    f"{report['accuracy_blind']:.3f}, chance {report['chance']:.3f}); short scenes "
    f"{report['accuracy_short_scenes']:.3f} (uniform {report['accuracy_short_uniform']:.3f}); "
    f"{report['questions']} questions, {report['videos']} videos; training "
    f"{report['train_seconds']:.0f} s of {report['total_seconds']:.0f} s"
  )


def missed_bars(report: Mapping) -> list[str]:
  """A sentence for every figure that misses its target.

  NaN misses every target.
  """
  gain = report["accuracy_short_scenes"] - report["accuracy_short_uniform"]
  distance = abs(report["accuracy_blind"] - report["chance"])
  bars = (
    (report["accuracy"] >= 0.90, f"accuracy {report['accuracy']:.3f} is below 0.90"),
    (report["questions"] >= 200, f"{report['questions']} questions are fewer than 200"),
    (report["videos"] >= 50, f"{report['videos']} videos are fewer than 50"),
    (
      distance <= 0.1,
      f"blind accuracy {report['accuracy_blind']:.3f} is not within 0.1 of chance "
      f"({report['chance']:.3f})",
    ),
    (gain >= 0.05, f"on short scenes, selection gains {gain:.3f} over uniform, less than 0.05"),
  )
  return [sentence for reached, sentence in bars if not reached]
