# SPDX-License-Identifier: Apache-2.0
"""filax scenes draws the scenes that a checkpoint selects in a video."""

from collections.abc import Sequence
import json

from filax.cli import checkpoint_options, options


def main(argv: Sequence[str]) -> None:
  """filax scenes --checkpoint DIR --video FILE --out sheet.png [--json]"""
  made = checkpoint_options.parser(
    "scenes", "Draw the scenes that a checkpoint selects, uniform frames beside them."
  )
  made.add_argument("--out", required=True, help="the contact sheet, a PNG")
  made.add_argument(
    "--count", type=options.whole(1), help="scenes; default: config.infer.selector.scenes"
  )
  args = made.parse_args(argv)
  from filax.infer.contact_sheet import contact_sheet
  from filax.infer.scenes import scenes as find

  model, params = checkpoint_options.load(args)
  name = model.processor.infer["selector"]["name"]
  video = model.processor.read(args.video, model)
  ways = {
    way: find(model, params, video, args.count, selector=way)
    for way in dict.fromkeys(("uniform", name))
  }
  contact_sheet(
    [
      (
        f"{way}: {len(found)} groups of {model.selector.size} frames",
        [frame for scene in found for frame in scene.frames],
        [second for scene in found for second in scene.times],
      )
      for way, found in ways.items()
    ],
    args.out,
    group=model.selector.size,
  )
  times = {
    way: [checkpoint_options.scene_times(s.time, s.times) for s in found]
    for way, found in ways.items()
  }
  if args.json:
    print(
      json.dumps(
        dict(
          video=args.video,
          duration=round(video.duration, 3),
          candidates=len(video.frames),
          selector=name,
          sheet=args.out,
          **times,
        )
      )
    )
    return
  for way, found in times.items():
    print(f"{way}: {', '.join(str(scene['time']) for scene in found)} seconds")
  print(f"{args.out}: the frames of each")
