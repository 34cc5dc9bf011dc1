# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that answer from a checkpoint."""

import argparse
from typing import Any

from filax.cli import options
from filax.models import components


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = True) -> None:
  """--checkpoint, and the modules that its config may name."""
  parser.add_argument(
    "--checkpoint", required=required, help="folder of a run, or of one of its checkpoints"
  )
  parser.add_argument(
    "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
  )


def video_parser(verb: str, description: str) -> argparse.ArgumentParser:
  """A parser with the options that chat and scenes share."""
  parser = options.Parser(prog=f"filax {verb}", description=description)
  add_checkpoint(parser)
  parser.add_argument("--video", required=True, help="a video file, or a folder of pictures")
  parser.add_argument("--selector", help="kmeans, uniform, ...; default: config.infer.selector")
  parser.add_argument("--json", action="store_true", help="print JSON")
  return parser


def load_session(args: argparse.Namespace):
  """The session of args.checkpoint; an unreadable video is reported before parameters load."""
  from data_pipelines.media.probe import probe
  from filax.infer.session import load

  error = probe(args.video).error
  if error:
    raise ValueError(error)
  session = load(args.checkpoint, components=args.components)
  return session.with_selector(args.selector) if args.selector else session


def scene_times(time: float, times) -> dict[str, Any]:
  """A scene as JSON: the seconds of its representative and its frames."""
  seconds = [round(float(second), 3) for second in times]
  return dict(time=round(float(time), 3), times=seconds)
