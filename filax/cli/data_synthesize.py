# SPDX-License-Identifier: Apache-2.0
"""filax data synthesize CAPTIONS... --out DIR

Makes long videos of captioned clips, as FiLA-Video's LongVideo. Nothing is encoded again: a long
video is a timeline of clips, and its answer is the captions of its scenes with their times.

  filax data synthesize captions/ --root videos --out data/longvideo --count 40000
  filax data synthesize clips.jsonl --root videos --media '{video}' --out data/small --count 100 \\
      --minutes 2:5 --render 3       # also writes three of them as mp4, to look at

The same captions and options give the same files. Exit code 0: all good; 1: some records were left
out (bad.txt lists them); 2: nothing could be done.
"""

import argparse
import json
import pathlib

from filax import settings
from filax.cli import options


def add_options(parser: argparse.ArgumentParser) -> None:
  """The options of `filax data synthesize`."""
  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("captions", nargs="+", metavar="CAPTIONS", help="files, or folders with *cap*.json(l)")
  add("--out", required=True, help="folder: new, empty, or of the same recipe")
  add("--count", type=options.whole_number(1), default=40_000, help="number of long videos [40000]")
  add("--root", default="", help="folder of the media; clips without a file are left out")
  add("--media", default="{data_source}/{video}", help="path of a clip under --root [%(default)s]")
  add(
    "--minutes",
    type=_minutes,
    default=(5.0, 30.0),
    metavar="LOW:HIGH",
    help="length of a video [5:30]",
  )
  add("--mean", type=options.number(1), default=667.0, help="mean length in seconds [667]")
  add("--min-scenes", type=options.whole_number(1), default=4, help="fewest scenes of a video [4]")
  add("--min-clip", type=options.number(1), default=2.0, help="fewest seconds of a clip [2]")
  add(
    "--max-words",
    type=options.whole_number(0),
    default=0,
    help="most words of the caption of a video [0: any]",
  )
  add(
    "--min-scene-share",
    type=options.whole_number(0),
    default=0,
    metavar="FRAMES",
    help="use only scenes that this many uniform frames cannot miss [0: all]",
  )
  add("--passes", type=options.whole_number(1), default=3, help="most uses of a clip [3]")
  add(
    "--captions",
    dest="form",
    choices=("seconds", "clock", "plain"),
    default="seconds",
    help="how the times of a scene are written [seconds]",
  )
  add(
    "--openers",
    choices=("keep", "scene"),
    default="keep",
    help='keep "the video begins" in captions, or write "this scene begins" [keep]',
  )
  options.add_held_out(parser)
  _add_run_options(add)
  parser.set_defaults(run=synthesize)


def _add_run_options(add) -> None:
  """Options of reading and writing."""
  add(
    "--durations",
    default="",
    metavar="FILE|probe",
    help="lengths of clips, for records without one",
  )
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=42,
    help="another one makes other videos [42]",
  )
  add(
    "--render", type=options.whole_number(0), default=0, metavar="N", help="write N videos as mp4"
  )
  add(
    "--processes",
    type=options.whole_number(1),
    default=None,
    help="number of processes; default: one per processor",
  )
  add("--force", action="store_true", help="replace another output")
  add("--json", action="store_true", help="print the figures as JSON")


def synthesize(args: argparse.Namespace) -> int:
  """Makes the long videos; returns the exit code."""
  from data_pipelines.synthesis import longvideo, longvideo_render
  from data_pipelines.synthesis.caption_reader import ReadingRules
  from data_pipelines.synthesis.clip_table import LengthRules
  from data_pipelines.synthesis.longvideo_plan import VideoRules

  low, high = args.minutes
  rules = VideoRules(
    low=low * 60,
    high=high * 60,
    mean=args.mean,
    min_scenes=args.min_scenes,
    max_words=args.max_words,
    min_scene_share=args.min_scene_share,
    passes=args.passes,
    seed=args.seed,
  )
  reading = ReadingRules(
    root=args.root, media=args.media, openers=args.openers, held_out=args.held_out
  )
  lengths = LengthRules(durations=args.durations, shortest=args.min_clip)
  wanted = longvideo.LongVideoOptions(
    count=args.count,
    rules=rules,
    reading=reading,
    lengths=lengths,
    captions=args.form,
    exclude=tuple(args.exclude_ids),
  )
  captions = _caption_files(args.captions)
  result = longvideo.synthesize(
    captions, args.out, wanted, force=args.force, processes=args.processes
  )
  rendered = longvideo_render.render(result.out, result.manifests, args.root, args.render)
  if result.was_complete:
    print(f"{result.out} is complete already: nothing was written.")
  elif args.json:
    print(json.dumps(result.figures, indent=2))
  else:
    print("\n".join(_lines(result)))
  for path in rendered:
    print(f"Wrote {path}")
  return 1 if result.bad else 0


def _caption_files(names: list[str]) -> list[str]:
  """Files, and those of folders that hold captions."""
  paths = []
  for name in names:
    folder = pathlib.Path(name)
    if not folder.is_dir():
      paths.append(name)
      continue
    inside = sorted(folder.rglob("*cap*.json*"))
    if not inside:
      raise ValueError(f"The folder {name} holds no *cap*.json and no *cap*.jsonl.")
    paths += map(str, inside)
  return paths


def _lines(result) -> list[str]:
  """The figures as text."""
  figures = result.figures
  lines = [f"{'':24}{'captions':>10}{'words':>10}{'seconds':>10}{'hours':>10}"]
  for name, row in figures["table"].items():
    columns = "".join(f"{row[key]:>10}" for key in ("captions", "words", "seconds", "hours"))
    lines.append(f"{name:24}{columns}")
  uses = figures["uses_of_a_clip"]
  lines.append(
    f"Scenes a video: {figures['scenes']['mean']:g}. {uses['clips']} clips, used {uses['mean']:g} "
    f"times ({uses['most']} at most; {uses['unused']} not at all)."
  )
  for frames in ("32", "96"):
    share = figures["without_a_frame"][frames]
    lines.append(f"Scenes without a frame at {frames} uniform frames: {share['scenes']:.1%}.")
  planned = figures["table"]["ours"]["captions"]
  if planned < figures["wanted"]:
    lines.append(
      f"{figures['wanted']} videos were asked for; the clips suffice for {planned}. Raise --passes."
    )
  if result.bad:
    lines.append(f"{len(result.bad)} records were left out: see {result.out / 'bad.txt'}.")
  held_out = figures["held_out"]
  lines.append(
    f"Held out: {held_out['videos']} videos of {held_out['clips']} clips. Name "
    f"{result.out / 'held_out_media.jsonl'} in config.data.exclude of a run that trains on the "
    "clips themselves."
  )
  lines.append(f"Wrote {len(result.manifests)} manifests to {result.out}.")
  return lines


def _minutes(text: str) -> tuple[float, float]:
  """Parses LOW:HIGH."""
  try:
    low, high = (float(part) for part in text.replace(",", ":").split(":"))
  except ValueError:
    low = high = 0.0
  if not 0 < low < high < 24 * 60:
    raise argparse.ArgumentTypeError(f"{text!r} is not a range of minutes such as 5:30.")
  return low, high
