# SPDX-License-Identifier: Apache-2.0
"""What `filax chat` and `filax scenes` share: a checkpoint and a video."""

import argparse

from filax.cli import options
from filax.models import components


def parser(verb: str, text: str) -> argparse.ArgumentParser:
  """The options that both verbs have."""
  made = options.Parser(prog=f"filax {verb}", description=text)
  made.add_argument(
    "--checkpoint", required=True, help="folder of a run, or of one of its checkpoints"
  )
  made.add_argument(
    "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
  )
  made.add_argument("--video", required=True, help="a video file, or a folder of pictures")
  made.add_argument("--selector", help="kmeans, uniform, ...; default: config.infer.selector")
  made.add_argument("--json", action="store_true", help="print JSON")
  return made


def load(args):
  """The model and its parameters; a video that cannot be read is reported before they load."""
  from data_pipelines.media.probe import probe
  from filax.infer.processor import with_selector
  from filax.infer.session import load as load_model

  if error := probe(args.video).error:
    raise ValueError(error)
  model, params = load_model(args.checkpoint, components=args.components)
  return (with_selector(model, args.selector) if args.selector else model), params


def scene_times(time: float, times) -> dict:
  return dict(time=round(float(time), 3), times=[round(float(t), 3) for t in times])
