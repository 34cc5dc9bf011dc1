# SPDX-License-Identifier: Apache-2.0
"""Questions a second of `filax evals`: reading ahead against reading when needed.

  python -m benchmarks.evals_speed [--checkpoint DIR] [--videos 16] [--out speed.json]

Prints a table, and writes JSON with --out. Both modes ask the same questions about the same videos,
alternating in one process after a warm-up that compiles; the fastest of --rounds counts. Seconds of
decode are summed over reading threads and overlap with the rest when media are read ahead; encode,
prefill and generate are seconds of the device; wait is what the device waited for media. Without
--checkpoint, a small model with random weights is asked.
"""

import argparse
import json
import os
import pathlib
import tempfile
from typing import Any

QUESTIONS = ("What shape is on red?", "What colour is on blue?", "What shape is on blue?")
MODES = dict(serial=0, ahead=4)  # Name -> sets of media read in advance.
PHASES = ("decode", "wait", "encode", "prefill", "generate", "total")
FPS = 25
SIDES = (180, 240)  # Height and width of the videos.
# A random model whose encoder takes about as long as a core decodes such videos.
MODEL = {
  "infer.sampling.frames": 96,
  "model.encoder.variant": "toy",
  "model.encoder.width": 128,
  "model.encoder.depth": 6,
}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--checkpoint", default="", help="default: a small random model")
  parser.add_argument("--videos", type=int, default=16)
  parser.add_argument("--seconds", type=int, default=8, help="length of a video")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--out", default="", help="a file for the JSON")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    report = measure_modes(args, pathlib.Path(folder))
  print(speed_table(report))
  if args.out:
    pathlib.Path(args.out).write_text(json.dumps(report, indent=2) + "\n")


def measure_modes(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
  """The fastest run of each mode."""
  import jax

  import filax
  from filax.testing import tiny_checkpoint

  manifest = write_questions(folder, args.videos, args.seconds)
  checkpoint = args.checkpoint or tiny_checkpoint.write_checkpoint(folder / "run", **MODEL)
  session = filax.load(checkpoint)
  options = dict(batch=args.batch, threads=args.threads, progress=False)
  filax.evaluate(session, manifest, **options)
  runs: dict[str, dict[str, Any]] = {}
  for _ in range(args.rounds):
    for mode, ahead in MODES.items():
      report = filax.evaluate(session, manifest, ahead=ahead, **options)
      before = runs.get(mode)
      if before is None or report["seconds"]["total"] < before["seconds"]["total"]:
        runs[mode] = report
  device = jax.devices()[0]
  report = dict(
    device=f"{device.device_kind} ({device.platform})",
    cores=os.cpu_count(),
    checkpoint=args.checkpoint or "a small random model",
    questions=runs["ahead"]["questions"],
    videos=args.videos,
    frames=runs["ahead"]["frames"],
    batch=args.batch,
  )
  for mode, run in runs.items():
    report[mode] = dict(
      questions_per_second=round(run["questions"] / run["seconds"]["total"], 2),
      idle_share=round(run["idle_share"], 4),
      seconds={phase: run["seconds"].get(phase, 0.0) for phase in PHASES},
    )
  return report


def write_questions(folder: pathlib.Path, videos: int, seconds: int) -> str:
  """Writes H.264 videos and a manifest of questions about them."""
  import numpy as np

  from data_pipelines.media.encoder import write_h264
  from filax.testing import manifests

  height, width = SIDES
  rng = np.random.default_rng(0)
  texture = rng.integers(0, 256, (height, 2 * width, 3), np.uint8)
  records = []
  for number in range(videos):
    name = f"{number}.mp4"
    pictures = (texture[:, (7 * number + 3 * t) % width :][:, :width] for t in range(seconds * FPS))
    write_h264(folder / name, map(np.ascontiguousarray, pictures), FPS, {"g": "50"})
    for question in QUESTIONS:
      records.append(manifests.question_record(question, "circle", video=name))
  return manifests.write_manifest(folder / "questions.json", records)


def speed_table(report: dict[str, Any]) -> str:
  """The figures in words."""
  head = "".join(f"{phase:>10}" for phase in PHASES)
  lines = [
    f"{report['questions']} questions about {report['videos']} videos at {report['frames']} "
    f"frames, batch {report['batch']}, {report['device']}, {report['cores']} cores, "
    f"{report['checkpoint']}",
    f"{'':8}{'q/s':>8}{'idle':>8}{head}   (seconds)",
  ]
  for mode in MODES:
    run = report[mode]
    seconds = "".join(f"{run['seconds'][phase]:>10.2f}" for phase in PHASES)
    lines.append(f"{mode:8}{run['questions_per_second']:>8.2f}{run['idle_share']:>8.1%}{seconds}")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
