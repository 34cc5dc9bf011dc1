# SPDX-License-Identifier: Apache-2.0
"""filax data world: a small world of scenes, to train on and to ask about.

  filax data world --out data/world --tasks shape,colour
  filax data world --out data/hard --tasks shape,motion,order --held-seconds 600,1200 \\
      --short-seconds 2,3

Videos are H.264 files of nearly still scenes. A scene is a shape on a background of its own colour,
and questions name the scene by that colour. The tasks:

  shape, colour, scene  what is shown (scene: both at once)
  digit                 a small digit: needs resolution
  motion, speed         need neighbouring frames
  order, next           the order of scenes
  count                 the number of scenes with a shape
  when                  answered with seconds

The held-out videos are drawn independently of those of training. Their answers are balanced, so a
model without the video scores at chance. world.json gives the chance score of each kind of
question, and truth.json lists the scenes.

DIR gets:

  clips.json            captions of clips, to learn to see
  train.json            questions about virtual videos that join scenes of many files
  held_out.json         questions about the held-out videos
  tokenizer.model, videos/, sheet.png (a contact sheet)

With --brief and --captions it also gets manifests of brief videos and of captions. Pairs are given
as MINIMUM,MAXIMUM. If the command was stopped, call it again to continue.
"""

import argparse
from collections.abc import Callable
import dataclasses
import json

_HELP = {  # Field of the recipe -> its help.
  "tasks": "kinds of questions, with commas",
  "videos": "files of training",
  "held": "held-out videos",
  "seed": "another one draws other videos",
  "side": "pixels of a picture's side",
  "fps": "frames a second of the files",
  "seconds": "length of a file of training",
  "held_seconds": "length of a held-out video; longer is harder",
  "train_seconds": "length of a joined training video",
  "scenes": "scenes of a video; more is harder",
  "joined_scenes": "scenes of a joined training video; 0,0: as --scenes",
  "short": "short scenes of a held-out video",
  "train_short": "short scenes of a training video",
  "short_seconds": "length of a short scene; shorter is harder",
  "moving": "share of scenes with motion, if motion or speed is asked",
  "crossing_seconds": "time in which a fast and a slow shape cross the picture; faster is harder",
  "digit_pixels": "height of a digit; smaller is harder",
  "contrast": "of shapes against backgrounds, up to 1; less is harder",
  "time_step": "answers about times are multiples of it, in seconds; finer is harder",
  "length_bounds": "split kinds into Short, Medium and Long videos at these seconds",
  "slots": "frames of training: a long scene of a file fills 3 of them",
  "joined": "training records for every file",
  "brief": "records for every file in train_brief.json: joined videos of 2 or 3 scenes",
  "brief_seconds": "length of those",
  "captions": "records in captions.json: joined videos with a caption",
  "turns": "questions of a training record",
  "described": "share of training records that are a caption instead",
  "questions": "the most held-out questions of one kind; 0: all that are balanced",
}


def add_world_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of `filax data world`."""
  from data_pipelines.synthesis.world.recipe import WorldRecipe

  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("--out", required=True, metavar="DIR", help="new, or of the same recipe")
  for field in dataclasses.fields(WorldRecipe):
    default = field.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    parser.add_argument(
      f"--{field.name.replace('_', '-')}",
      type=_parser_of(default),
      default=default,
      help=f"{_HELP[field.name]} [{shown}]",
    )
  parser.add_argument("--json", action="store_true", help="print world.json")
  parser.set_defaults(run=_make_world)


def _parser_of(default) -> Callable:
  """The argparse type of an option with this default."""
  if not isinstance(default, tuple):
    return type(default)
  kind = type(default[0])

  def parse(text: str) -> tuple:
    parts = text.split(",")
    if kind is not str and len(parts) != 2:
      raise argparse.ArgumentTypeError(f"{text!r} is not a pair. Set it to MINIMUM,MAXIMUM.")
    try:
      return tuple(kind(part.strip()) for part in parts)
    except ValueError:
      raise argparse.ArgumentTypeError(f"{text!r} is not a pair of numbers.") from None

  return parse


def _make_world(args: argparse.Namespace) -> int:
  from data_pipelines.synthesis.world.recipe import read_recipe
  from data_pipelines.synthesis.world.sheet import write_sheet
  from data_pipelines.synthesis.world.world_files import write_world

  recipe = read_recipe({name: getattr(args, name) for name in _HELP})
  world = write_world(args.out, recipe)
  sheet = write_sheet(args.out)
  if args.json:
    print(json.dumps(world, indent=2))
    return 0
  print(f"{args.out}: {recipe.videos} videos for training, {recipe.held} held out.")
  for kind, row in world["kinds"].items():
    print(f"  {kind:<14} {row['questions']:>4} questions, chance {row['chance']:.3f}")
  print(f"Look at {sheet}.")
  return 0
