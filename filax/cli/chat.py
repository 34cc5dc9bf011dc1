# SPDX-License-Identifier: Apache-2.0
"""filax chat asks a checkpoint about a video."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import sys
import time
from typing import Any

from filax.cli import checkpoint_options, errors, options
from filax.cli.terminal import printable, with_start_joined
from filax.infer.answer_settings import MOST_ANSWERS

DESCRIPTION = """\
Ask a checkpoint about a video.

  filax chat --checkpoint runs/demo/stage2 --video clip.mp4 --question "What shape is on red?"
  filax chat --checkpoint runs/demo/stage2 --video clip.mp4
      Reads questions from the terminal, one per line. The video is encoded once.
  filax chat --checkpoint SmolLM2-135M-Instruct.Q4_1.gguf
      Asks a language model alone.
"""


def main(argv: Sequence[str]) -> None:
  """filax chat --checkpoint DIR [--video FILE] [--question TEXT] [--json]

  Without --video, the language model answers alone. Without --question, reads one question per line
  until the end of input; the video is encoded once. With --json there is one line per question,
  with "answer" or with "error".
  """
  args = chat_parser().parse_args(argv)
  try:
    conversation, start_seconds = _start_conversation(args)
  except (ValueError, OSError, RuntimeError, MemoryError) as error:
    if args.json:
      for question in _questions(args):
        _print_error(args, question, error)
    raise
  for question in _questions(args):
    try:
      answers = _ask(conversation, question, args)
    except (ValueError, RuntimeError, MemoryError) as error:  # OSError is that of the output.
      _print_error(args, question, error)
      if args.question is not None:
        raise
    else:
      if args.json:
        row = _answer_row(args.video, conversation, question, answers, start_seconds)
        print(json.dumps(row), flush=True)


def chat_parser() -> argparse.ArgumentParser:
  """The options of `filax chat`."""
  parser = checkpoint_options.video_parser("chat", DESCRIPTION, False)
  add = parser.add_argument
  add(
    "--question",
    action=options.Single,
    help="a question; default: read questions from standard input, one per line",
  )
  checkpoint_options.add_sampling(parser)
  add(
    "--min-p",
    type=options.number(high=1),
    help="leave out tokens below this share of the probability of the likeliest token",
  )
  add(
    "--repetition-penalty",
    type=options.number(above=True),
    help="above 1: tokens of prompt and answer become less likely",
  )
  add("--stop-string", action="append", default=[], help="end the answer before this text")
  add(
    "--answers",
    type=options.whole_number(1, MOST_ANSWERS),
    default=1,
    help=f"answers to each question, at most {MOST_ANSWERS}",
  )
  add(
    "--frames",
    type=options.whole_number(1),
    help="the most frames of the video; default: as in config.infer.sampling",
  )
  add("--yarn", type=options.number(1), help="extend the context by this factor")
  add("--dropout", default="", help="visual dropout: off, a preset, or layer:kind:ratio,...")
  add("--encode-cache", default="", help="folder that keeps the visual tokens of videos")
  return parser


def _start_conversation(args: argparse.Namespace):
  """(a conversation about args.video, the seconds that it took to begin)."""
  start = time.perf_counter()
  session = checkpoint_options.load_session(args)
  session = session.adjusted(frames=args.frames, yarn=args.yarn, dropout=args.dropout)
  load_seconds = time.perf_counter() - start
  if args.video is not None:
    checkpoint_options.note_unused_cache("chat", session, args.encode_cache)
  conversation = session.conversation(args.video, args.encode_cache)
  return conversation, dict(load=load_seconds, **conversation.seconds)


def _ask(conversation, question: str, args: argparse.Namespace):
  """The answers to a question.

  As text, the first is printed while it is generated, the others after it. A conversation that
  has grown too long starts again with the question.
  """
  streamed = _stream_answer(conversation, question, args)
  for piece in with_start_joined(streamed):
    if not args.json:
      print(printable(piece), end="", flush=True)
  if not args.json:
    print(flush=True)
    for answer in streamed.answers[1:]:
      print(printable(answer.text), flush=True)
  return streamed.answers


def _stream_answer(conversation, question: str, args: argparse.Namespace):
  """The answer, in pieces.

  It continues the conversation; if that has grown too long, it answers the question alone.
  """
  settings = dict(
    max_new_tokens=args.max_new_tokens,
    temperature=args.temperature,
    top_p=args.top_p,
    top_k=args.top_k,
    min_p=args.min_p,
    repetition_penalty=args.repetition_penalty,
    stop_strings=args.stop_string,
    answers=args.answers,
    seed=args.seed,
  )
  try:
    return conversation.stream(question, **settings)
  except ValueError as error:
    turns = conversation.turns
    if not turns:
      raise
    reason = str(error)
  conversation.forget()
  try:
    streamed = conversation.stream(question, **settings)
  except ValueError:
    conversation.turns = turns  # The question alone is too long: the talk goes on without it.
    raise
  print(f"filax chat: {reason} The talk starts anew.", file=sys.stderr)
  return streamed


def _questions(args: argparse.Namespace) -> Iterable[str]:
  """The question of the command line, or those of standard input."""
  return _input_questions() if args.question is None else [args.question]


def _input_questions() -> Iterator[str]:
  """Lines of standard input; a prompt sign only for a person."""
  if sys.stdin is None:  # The command was started with a closed input.
    return
  if hasattr(sys.stdin, "reconfigure"):
    sys.stdin.reconfigure(errors="replace")  # Bytes that are not UTF-8 end no conversation.
  is_terminal = sys.stdin.isatty()
  while True:
    if is_terminal:
      print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
      if is_terminal:
        print(file=sys.stderr)  # So that the shell's prompt does not follow ours.
      return
    if line.strip():
      yield line.strip()


def _print_error(args: argparse.Namespace, question: str, error: Exception) -> None:
  """Prints the reason as a line of JSON, or on stderr."""
  text = errors.sentence(error)
  if args.json:
    row = dict(question=question, error=text, video=args.video)
    print(json.dumps(row), flush=True)
  elif args.question is None:
    print(f"filax chat: {text}", file=sys.stderr)


def _answer_row(
  video: str | None, conversation, question: str, answers, start_seconds: Mapping[str, float]
) -> dict[str, Any]:
  """The answers with the times of their scenes and the seconds taken."""
  answer = answers[0]
  scenes = []
  for second, times in zip(conversation.times, conversation.scene_times, strict=True):
    scenes.append(checkpoint_options.scene_times(second, times))
  seconds = dict(start_seconds) | dict(answer.seconds)
  seconds["total"] = sum(seconds.values())
  return dict(
    question=question,
    answer=answer.text,
    answers=[answer.text for answer in answers],
    video=video,
    duration=None if conversation.video is None else round(conversation.video.duration, 3),
    times=[round(second, 3) for second in conversation.times],
    scenes=scenes,
    selector=conversation.loaded.processor.infer["selector"]["name"],
    stopped=answer.stopped,
    tokens=answer.tokens,
    prompt_tokens=answer.prompt_tokens,
    seconds={name: round(value, 3) for name, value in seconds.items()},
  )
