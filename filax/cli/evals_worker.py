# SPDX-License-Identifier: Apache-2.0
"""filax evals worker --checkpoint DIR: answers requests for other programs.

Reads lines of JSON from standard input until its end, and writes lines of JSON to standard output:

  {"schema": 1, "checkpoint": "runs/a", "frames": 96, ...}                     first of all
  {"id": 1, "prompt": "What is on red?", "media": ["a.mp4"]}                   a request
  {"requests": [{"id": 2, "prompt": ...}, ...]}                                several, in batches
  {"id": 1, "answer": "circle"}   or   {"id": 1, "error": "..."}               a reply to each

filax/evals/worker_requests.py describes the keys. Everything else is printed on stderr.
"""

import argparse
from collections.abc import Sequence
import os
import sys
from typing import TextIO

from filax.cli import checkpoint_options, options


def main(argv: Sequence[str]) -> None:
  """Serves until the end of standard input."""
  args = worker_parser().parse_args(argv)
  output = _private_stdout()
  from filax.evals.worker import AnswerWorker, serve_lines
  from filax.infer.device_mesh import ROWS

  session = checkpoint_options.load_on_devices(args, ROWS)
  session = session.adjusted(frames=args.frames, yarn=args.yarn, dropout=args.dropout)
  if args.selector:
    session = session.with_selector(args.selector)
  worker = AnswerWorker(session, args.batch, args.threads)
  lines = open(0, encoding="utf-8", errors="replace", closefd=False)
  with lines, output:
    serve_lines(worker, lines, output)


def worker_parser() -> argparse.ArgumentParser:
  """The options of `filax evals worker`."""
  parser = options.Parser(
    prog="filax evals worker",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  checkpoint_options.add_checkpoint(parser)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add("--selector", help="kmeans, uniform, ...; default: the checkpoint's config.infer.selector")
  add("--frames", type=options.whole_number(1), help="most frames; default: the checkpoint's")
  add("--yarn", type=options.number(1), help="stretch the context by this factor")
  add("--dropout", default="", help="visual dropout: off, a preset, or layer:kind:ratio,...")
  add("--batch", type=options.whole_number(1), default=32, help="prompts answered at a time")
  add("--threads", type=options.whole_number(1), default=2, help="videos read at a time")
  return parser


def _private_stdout() -> TextIO:
  """Standard output for replies alone; whatever else is printed goes to stderr."""
  sys.stdout.flush()
  output = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
  os.dup2(2, 1)
  return output
