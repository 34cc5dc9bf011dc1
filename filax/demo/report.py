# SPDX-License-Identifier: Apache-2.0
"""report.json: what the demo measured, and what it must reach."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

from data_pipelines.synthesis.toy import CHOICES


def numbers(
  workdir: pathlib.Path,
  evals: Mapping[str, Mapping],
  curves: Sequence[Sequence[Mapping]],
  seconds: Mapping[str, float],
) -> dict[str, Any]:
  """The figures of report.json from the evaluations (scenes, uniform, blind), the training curves
  and the seconds of each phase so far."""
  scenes, uniform = evals["scenes"], evals["uniform"]
  train_seconds = sum(seconds.get(f"stage{stage}", 0.0) for stage in (1, 2))
  return dict(
    accuracy=scenes["accuracy"],
    accuracy_uniform=uniform["accuracy"],
    accuracy_short_scenes=mean(scenes, "/short"),
    accuracy_short_uniform=mean(uniform, "/short"),
    accuracy_blind=evals["blind"]["accuracy"],
    chance=chance(scenes["answers"]),
    questions=scenes["questions"],
    videos=scenes["videos"],
    train_seconds=round(train_seconds, 1),
    total_seconds=round(sum(seconds.values()), 1),
    steps=sum(curve[-1]["step"] for curve in curves),
    frames_per_second=round(speed(curves), 1),
    checkpoint=str(workdir / "stage2"),
  )


def mean(found: Mapping, part: str) -> float:
  """Accuracy over the questions whose kind contains `part`."""
  scores = [answer["score"] for answer in found["answers"] if part in answer["kind"]]
  return sum(scores) / len(scores) if scores else 0.0


def chance(answers: Sequence[Mapping]) -> float:
  """What guessing among the answers that each question allows would score."""
  return sum(1 / CHOICES[answer["kind"].partition("/")[0]] for answer in answers) / len(answers)


def speed(curves: Sequence[Sequence[Mapping]]) -> float:
  """Frames per second of training, compilation left out."""
  frames = spent = 0.0
  for curve in curves:
    before = 0
    for record in curve:
      seconds = record["seconds_per_step"] * (record["step"] - before)
      frames, spent = frames + record["frames_per_second"] * seconds, spent + seconds
      before = record["step"]
  return frames / spent


def check(path: pathlib.Path) -> str:
  """One line on what was reached. Raises ValueError naming every bar that was missed."""
  if not path.exists():
    raise ValueError(f"There is no {path}. Run filax demo --workdir {path.parent} first.")
  found = json.loads(path.read_text())
  gain = found["accuracy_short_scenes"] - found["accuracy_short_uniform"]
  bars = (
    (found["accuracy"] >= 0.90, f"accuracy {found['accuracy']:.3f} is below 0.90"),
    (found["questions"] >= 200, f"{found['questions']} questions are fewer than 200"),
    (found["videos"] >= 50, f"{found['videos']} videos are fewer than 50"),
    (
      abs(found["accuracy_blind"] - found["chance"]) <= 0.1,
      f"blind accuracy {found['accuracy_blind']:.3f} is not within 0.1 of chance "
      f"({found['chance']:.3f})",
    ),
    (gain >= 0.05, f"on short scenes, selection gains {gain:.3f} over uniform, less than 0.05"),
  )
  if missed := [text for reached, text in bars if not reached]:
    raise ValueError(f"The demo missed its bars: {'; '.join(missed)}.")
  return (
    f"accuracy {found['accuracy']:.3f} (uniform {found['accuracy_uniform']:.3f}, blind "
    f"{found['accuracy_blind']:.3f}, chance {found['chance']:.3f}); short scenes "
    f"{found['accuracy_short_scenes']:.3f} (uniform {found['accuracy_short_uniform']:.3f}); "
    f"{found['questions']} questions, {found['videos']} videos; training "
    f"{found['train_seconds']:.0f} s of {found['total_seconds']:.0f} s"
  )
