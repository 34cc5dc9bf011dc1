# SPDX-License-Identifier: Apache-2.0
"""filax scenes draws the scenes that a checkpoint selects in a video."""

import argparse
from collections.abc import Mapping, Sequence
import json

from filax.cli import checkpoint_options, options, outputs


def main(argv: Sequence[str]) -> None:
  """filax scenes --checkpoint DIR --video FILE --out sheet.png [--json]"""
  args = scenes_parser().parse_args(argv)
  outputs.check_file(args.out)
  session = checkpoint_options.load_session(args)
  selector = session.processor.infer["selector"]["name"]
  group_size = session.model.selector.size
  video = session.read_video(args.video)
  selected = {}
  for name in dict.fromkeys(("uniform", selector)):
    selected[name] = session.scenes(video, args.count, selector=name)
  _draw_sheet(selected, args.out, group_size)
  times = {name: _all_times(scenes) for name, scenes in selected.items()}
  if args.json:
    report = dict(
      video=args.video,
      duration=round(video.duration, 3),
      candidates=len(video.frames),
      selector=selector,
      sheet=args.out,
      **times,
    )
    print(json.dumps(report))
    return
  for name, rows in times.items():
    seconds = ", ".join(str(row["time"]) for row in rows)
    print(f"{name}: {seconds} seconds")
  print(f"{args.out}: the frames of each")


def _all_times(scenes: Sequence) -> list:
  """The times of every scene, for the report."""
  return [checkpoint_options.scene_times(scene.time, scene.times) for scene in scenes]


def scenes_parser() -> argparse.ArgumentParser:
  """The options of `filax scenes`."""
  parser = checkpoint_options.video_parser(
    "scenes", "Draw the scenes that a checkpoint selects, uniform frames beside them."
  )
  parser.add_argument("--out", required=True, help="the contact sheet, a PNG")
  parser.add_argument(
    "--count", type=options.whole_number(1), help="scenes; default: config.infer.selector.scenes"
  )
  return parser


def _draw_sheet(selected: Mapping[str, Sequence], path: str, group_size: int) -> None:
  """Writes the frames of each selection as a strip."""
  from filax.infer.contact_sheet import contact_sheet

  rows = []
  for name, scenes in selected.items():
    title = f"{name}: {len(scenes)} groups of {group_size} frames"
    frames = []
    times = []
    for scene in scenes:
      frames.extend(scene.frames)
      times.extend(scene.times)
    rows.append((title, frames, times))
  contact_sheet(rows, path, group=group_size)
