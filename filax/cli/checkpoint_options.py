# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that answer from a checkpoint.

Help and errors about options are printed at once, because jax is imported only where it is used.
"""

import argparse
from collections.abc import Mapping
import sys
from typing import Any

from filax import settings
from filax.checkpoint import averages
from filax.cli import options
from filax.models import components

DTYPES = ("float32", "bfloat16", "float16")


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = True) -> None:
  """--checkpoint, and the modules that its config may name."""
  parser.add_argument(
    "--checkpoint",
    required=required,
    help="folder of a run, of one of its checkpoints, or of a released model",
  )
  parser.add_argument(
    "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
  )
  add_base(parser)
  add_no_average(parser)


def add_base(parser: argparse.ArgumentParser) -> None:
  """--base, which takes effect when it is parsed."""
  parser.add_argument(
    "--base",
    type=_moved_base,
    metavar="FOLDER",
    help="new place of the model under the adapters (a run or a released folder), if it has moved",
  )


def add_no_average(parser: argparse.ArgumentParser) -> None:
  """--no-average, which takes effect when it is parsed."""
  parser.add_argument(
    "--no-average",
    action=_ReadLastValues,
    nargs=0,
    help="use the parameters of the last step, not their moving average (config.optim.ema, or "
    "kind schedule_free)",
  )


class _ReadLastValues(argparse.Action):
  def __call__(self, parser, namespace, values, option_string=None):
    setattr(namespace, self.dest, True)
    averages.read_last_values()


def _moved_base(text: str) -> str:
  """An argparse type: bases are looked for there from now on.

  Returns the folder of the checkpoint: that of a released folder is in the cache.
  """
  from filax import released
  from filax.checkpoint import base

  try:
    checkpoint = released.find_checkpoint(text)
    base.look_in(checkpoint)
  except (ValueError, OSError) as error:
    raise argparse.ArgumentTypeError(str(error)) from None
  return checkpoint


def add_devices(parser: argparse.ArgumentParser) -> None:
  """--mesh and --dtype: where the parameters lie, and how they compute."""
  parser.add_argument(
    "--mesh",
    type=mesh_sizes,
    metavar="AXIS=SIZE,...",
    help="sizes of data, fsdp, seq and tensor, e.g. data=2,tensor=4; -1 takes the remaining "
    "devices; default: all devices",
  )
  parser.add_argument(
    "--dtype",
    choices=DTYPES,
    default="",
    help="dtype of parameters and computation; default: as in the config",
  )
  parser.add_argument(
    "--quantise",
    choices=components.QUANTISED,
    default="",
    help="store the weights of all blocks in 8 or 4 bits (extra qlora)",
  )


def mesh_sizes(text: str) -> dict[str, int]:
  """An argparse type: "data=1,tensor=2" -> sizes of mesh axes."""
  sizes: dict[str, int] = {}
  for part in text.split(","):
    axis, _, size = part.partition("=")
    try:
      number = int(size)
    except ValueError:
      number = 0
    if not axis or not number or axis in sizes:
      raise argparse.ArgumentTypeError(
        f"{text!r} cannot be used. Set it to sizes of axes, such as data=1,tensor=2."
      )
    sizes[axis] = number
  return sizes


def load_on_devices(args: argparse.Namespace, layout: str | Mapping[str, int]):
  """The session of args.checkpoint on args.mesh, or on all devices.

  layout: how all devices share the work, filax.infer.device_mesh.ROWS or PARAMETERS.
  """
  from filax import released

  return released.load(
    args.checkpoint,
    mesh=args.mesh or layout,
    dtype=args.dtype,
    quantise=args.quantise,
    components=args.components,
  )


def video_parser(verb: str, description: str, required: bool = True) -> argparse.ArgumentParser:
  """A parser with the options that chat and scenes share.

  required: whether --video must be given.
  """
  parser = options.Parser(
    prog=f"filax {verb}",
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add_checkpoint(parser)
  add_devices(parser)
  without = "" if required else "; without it, the question is about no video"
  parser.add_argument(
    "--video",
    action=options.Single,
    required=required,
    help=f"a video file, or a folder of pictures{without}",
  )
  parser.add_argument(
    "--selector", help="how frames are chosen: kmeans, uniform, ...; default: config.infer.selector"
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  return parser


def add_sampling(parser: argparse.ArgumentParser) -> None:
  """Options that decide the tokens of an answer, for chat and watch."""
  add = parser.add_argument
  add(
    "--max-new-tokens",
    type=options.whole_number(1),
    help="the most tokens of an answer; default: config.infer.max_new_tokens",
  )
  add("--temperature", type=options.number(), help="0 is greedy; default: config.infer.temperature")
  add(
    "--top-p",
    type=options.number(high=1, above=True),
    help="sample from the likeliest tokens with this probability; default: config.infer.top_p",
  )
  add(
    "--top-k",
    type=options.whole_number(1),
    help="sample from this number of likeliest tokens; default: all",
  )
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=0,
    help="of random draws; default: 0",
  )


def load_session(args: argparse.Namespace):
  """The session of args.checkpoint; an unreadable video is reported before parameters load."""
  from data_pipelines.media.probe import probe
  from filax.infer.device_mesh import PARAMETERS

  error = probe(args.video).error if args.video is not None else None
  if error:
    raise ValueError(error)
  session = load_on_devices(args, PARAMETERS)
  return session.with_selector(args.selector) if args.selector else session


def note_unused_cache(verb: str, session, folder: str) -> None:
  """Says on stderr if --encode-cache would keep nothing."""
  from filax.infer.encode_long import can_stream

  if folder and not can_stream(session.model):
    selector = session.processor.infer["selector"]["name"]
    print(
      f"filax {verb}: --encode-cache keeps nothing, because selector {selector} chooses among all "
      "frames. Selectors that group neighbours, such as uniform, can be kept.",
      file=sys.stderr,
    )


def scene_times(time: float, times) -> dict[str, Any]:
  """A scene as JSON: the seconds of its representative and its frames."""
  seconds = [round(float(second), 3) for second in times]
  return dict(time=round(float(time), 3), times=seconds)
