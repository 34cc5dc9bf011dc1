# SPDX-License-Identifier: Apache-2.0
"""filax watch answers questions about a video while it plays."""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import os
import sys
from typing import Any

from filax.cli import checkpoint_options, options
from filax.cli.terminal import printable, with_start_joined, without_controls

QUESTION = "What happens?"
DESCRIPTION = """Answer questions about a video while it plays.

  filax watch --checkpoint DIR --source talk.mp4 --speed 4
  filax watch --checkpoint DIR --source /dev/video0 --every 10 --question "What happens?"
  filax watch --checkpoint DIR --source rtsp://camera/stream --every 60 --json

Type a question and press Enter; it is answered about all that was seen so far. With --question it
is asked at the end, and with --every also as often. Questions do not see one another."""


def main(argv: Sequence[str]) -> int:
  """filax watch --checkpoint DIR --source FILE|DEVICE|URL [--every SECONDS] [--json]

  Returns 1 if the video broke off. Raises ValueError if nothing of it could be seen.
  """
  args = watch_parser().parse_args(argv)
  from filax.infer.device_mesh import PARAMETERS

  _check_source(args.source)
  session = checkpoint_options.load_on_devices(args, PARAMETERS)
  session = session.adjusted(yarn=args.yarn)
  live = session.live(tokens=args.tokens, drop=args.drop, room=args.room)
  if not args.json:
    _print_start(session, live)
  return _Watch(live, args).watch_source()


def watch_parser() -> argparse.ArgumentParser:
  """The options of `filax watch`."""
  parser = options.Parser(
    prog="filax watch",
    description=DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  checkpoint_options.add_checkpoint(parser)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add(
    "--source",
    action=options.Single,
    required=True,
    help="a file, a folder of pictures, /dev/video0, rtsp://... ",
  )
  add(
    "--fps",
    type=options.number(above=True),
    default=1.0,
    help="frames that are read per second (1)",
  )
  add(
    "--speed",
    type=options.number(),
    default=1.0,
    help="speed of a file: 2 is twice as fast, 0 does not wait (1)",
  )
  add(
    "--question",
    action=options.Single,
    help=f"ask this, and read no questions from the terminal; default with --every: {QUESTION!r}",
  )
  add("--every", type=options.number(above=True), help="ask again after this many seconds of video")
  add(
    "--tokens",
    type=options.whole_number(1),
    help="the most visual tokens that are held; default: 16,384 or less",
  )
  add(
    "--drop",
    choices=("oldest", "attended"),
    default="oldest",
    help="which frames are dropped beyond --tokens",
  )
  add("--room", type=options.whole_number(1), help="tokens that a question and its answer may have")
  checkpoint_options.add_sampling(parser)
  add("--yarn", type=options.number(1), help="extend the context by this factor")
  add("--json", action="store_true", help="print a line of JSON for each answer, and at the end")
  return parser


def _check_source(source: str) -> None:
  """Checks what can be checked before a checkpoint is loaded.

  Raises ValueError for a URL that cannot be watched, or a file that is not there.
  """
  from data_pipelines.media.live_video import SCHEMES, is_url

  if "://" not in source and not os.path.exists(source):
    raise ValueError(f"{source}: does not exist.")

  if "://" in source and not is_url(source):
    raise ValueError(f"--source={source} cannot be watched. Use one of {', '.join(SCHEMES)}.")


def _print_start(session, live) -> None:
  """Says on stderr what differs from a whole video."""
  before = session.processor.infer["selector"]["name"]
  if live.selector != before:
    print(
      f"filax watch: selector {before} needs the whole video, so frames are read in groups of "
      f"{session.model.selector.size} as they come.",
      file=sys.stderr,
    )
  if session.model.stages:
    print("filax watch: visual dropout is off in a live session.", file=sys.stderr)


class _Watch:
  """A source, the session that sees it, and the questions."""

  def __init__(self, live, args: argparse.Namespace):
    from data_pipelines.media.live_video import LiveVideo
    from filax.infer.arrivals import Arrivals

    processor = live.loaded.processor
    self._live = live
    self._args = args
    self._video = LiveVideo(
      args.source,
      live.loaded.model.encoder.size,
      fps=args.fps,
      speed=args.speed,
      resize=processor.resize,
      limits=processor.limits,
    )
    self._question: str = args.question or (QUESTION if args.every else "")
    lines = None if self._question else _typed_lines()
    self._arrivals = Arrivals(self._video, lines)
    self._asked_at = -1.0  # Second of the newest frame at the last question.
    self._due = args.every
    self._error = ""

  def watch_source(self) -> int:
    """Watches until the end; the exit code."""
    from filax.infer.arrivals import ArrivedFrame, ArrivedQuestion

    for arrival in self._arrivals:
      if isinstance(arrival, ArrivedFrame):
        self._see(arrival)
      elif isinstance(arrival, ArrivedQuestion):
        self._answer(arrival.text)
      else:
        self._finish(arrival.error)
    return 1 if self._error else 0

  def _see(self, frame) -> None:
    """Appends a frame; asks if it is time."""
    self._live.append(frame.picture[None], [frame.second])
    while self._due is not None and frame.second >= self._due:
      self._due += self._args.every
      if self._live.status.seconds > self._asked_at:
        self._answer(self._question)

  def _finish(self, error: str) -> None:
    """The last question, and one sentence about the end."""
    status = self._live.status
    if not status.frames:
      raise ValueError(
        error
        or f"{self._video.display_name}: ended before a clip was whole ({status.waiting} frames)."
      )
    if self._question and status.seconds > self._asked_at:
      self._answer(self._question)
    self._error = error
    facts = dataclasses.asdict(status) | dict(
      missed=self._arrivals.missed, damaged=self._video.damaged
    )
    if self._args.json:
      print(json.dumps(dict(event="end", source=self._video.display_name, error=error, **facts)))
      sys.stdout.flush()
      return
    reason = error or f"{self._video.display_name} ended."
    words = ", ".join(f"{value:g} {name}" for name, value in facts.items() if value)
    print(f"filax watch: {without_controls(reason)} Seen: {words}.", file=sys.stderr)

  def _answer(self, question: str) -> None:
    """Prints the answer to a question, or why there is none."""
    self._asked_at = self._live.status.seconds
    args = self._args
    try:
      streamed = self._live.stream(
        question,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        seed=args.seed,
      )
      self._print_answer(question, streamed)
    except ValueError as error:
      self._print_error(question, str(error))

  def _print_answer(self, question: str, streamed) -> None:
    args = self._args
    if not args.json:
      print(f"[{self._asked_at:.1f} s] {question}", flush=True)
    for piece in with_start_joined(streamed):
      if not args.json:
        print(printable(piece), end="", flush=True)
    if not args.json:
      print(flush=True)
      return
    answer = streamed.answer
    status = self._live.status
    self._print_row(
      dict(
        event="answer",
        second=round(self._asked_at, 3),
        question=question,
        answer=answer.text,
        tokens=answer.tokens,
        prompt_tokens=answer.prompt_tokens,
        stopped=answer.stopped,
        frames=status.frames,
        held=status.groups,
        dropped=status.dropped,
        oldest=round(status.oldest, 3),
        seconds={name: round(value, 3) for name, value in answer.seconds.items()},
      )
    )

  def _print_error(self, question: str, error: str) -> None:
    if self._args.json:
      self._print_row(dict(event="error", question=question, error=error))
    else:
      print(f"filax watch: {without_controls(error)}", file=sys.stderr)

  def _print_row(self, row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def _typed_lines():
  """Lines of standard input, however odd their bytes."""
  if hasattr(sys.stdin, "reconfigure"):
    sys.stdin.reconfigure(errors="replace")
  return sys.stdin
