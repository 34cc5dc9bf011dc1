# SPDX-License-Identifier: Apache-2.0
"""Writes the K-Means scenes of a video as JSON and as a contact sheet.

  python examples/read_scenes.py runs/demo/stage2 lecture.mp4 --json scenes.json --sheet scenes.png

A scene is a group of frames whose features lie together; the model sees each as one.
"""

import argparse
import json
import pathlib

import filax
from filax.infer.contact_sheet import contact_sheet


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("checkpoint", help="a run folder, or one of its checkpoints")
  parser.add_argument("video")
  parser.add_argument("--count", type=int, help="scenes; default: as the checkpoint's config says")
  parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("scenes.json"))
  parser.add_argument("--sheet", type=pathlib.Path, default=pathlib.Path("scenes.png"))
  options = parser.parse_args()

  session = filax.load(options.checkpoint)
  scenes = session.scenes(options.video, options.count, selector="kmeans")

  rows = []
  frames = []
  times = []
  for scene in scenes:
    rows.append(dict(time=round(scene.time, 3), frames=[round(float(t), 3) for t in scene.times]))
    frames += list(scene.frames)
    times += list(scene.times)
  options.json.write_text(json.dumps(dict(video=options.video, scenes=rows), indent=2) + "\n")

  group = session.model.selector.size
  title = f"{len(scenes)} scenes of {group} frames"
  contact_sheet([(title, frames, times)], options.sheet, group=group)
  print(f"{options.json}, {options.sheet}: {title}")


if __name__ == "__main__":
  main()
