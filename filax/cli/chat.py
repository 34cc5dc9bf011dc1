# SPDX-License-Identifier: Apache-2.0
"""filax chat asks a checkpoint about a video."""

from collections.abc import Sequence
import json
import sys
import time

from filax.cli import checkpoint_options, options


def main(argv: Sequence[str]) -> None:
  """filax chat --checkpoint DIR --video FILE [--question TEXT] [--json]

  Without --question, reads one question a line until the end of input; the video is encoded once.
  With --json there is one line a question, with "answer" or with "error".
  """
  made = checkpoint_options.parser("chat", "Ask a checkpoint about a video.")
  made.add_argument("--question", help="default: questions from standard input, one a line")
  made.add_argument(
    "--max-new-tokens", type=options.whole(1), help="default: config.infer.max_new_tokens"
  )
  made.add_argument(
    "--temperature", type=options.number(), help="0 is greedy; default: config.infer's"
  )
  made.add_argument(
    "--top-p", type=options.number(high=1, above=True), help="default: config.infer.top_p"
  )
  made.add_argument("--top-k", type=options.whole(1), help="default: all")
  made.add_argument("--seed", type=options.whole(0), default=0)
  made.add_argument(
    "--frames", type=options.whole(1), help="most frames; default: config.infer.sampling's"
  )
  made.add_argument("--yarn", type=options.number(1), help="stretch the context by this factor")
  made.add_argument("--dropout", default="", help="visual dropout: off, a preset, or stages")
  made.add_argument("--encode-cache", default="", help="folder that keeps what was encoded")
  args = made.parse_args(argv)
  try:
    talk, before = _talk(args)
  except (ValueError, OSError) as error:
    for question in _asked(args) if args.json else ():
      _say_error(args, question, error)
    raise
  settings = dict(
    max_new_tokens=args.max_new_tokens,
    temperature=args.temperature,
    top_p=args.top_p,
    top_k=args.top_k,
    seed=args.seed,
  )
  for question in _asked(args):
    try:
      answer = _answer(talk, question, settings)
    except (ValueError, OSError, RuntimeError) as error:
      _say_error(args, question, error)
      if args.question is not None:
        raise
    else:
      _say(args, talk, question, answer, before)


def _talk(args):
  """(a conversation about args.video, the seconds that it took to begin)."""
  from filax.infer.chat import Conversation
  from filax.infer.processor import adjusted

  start = time.perf_counter()
  model, params = checkpoint_options.load(args)
  model = adjusted(model, frames=args.frames, yarn=args.yarn, dropout=args.dropout)
  load_seconds = time.perf_counter() - start
  talk = Conversation(model, params, args.video, args.encode_cache)
  return talk, dict(load=load_seconds, **talk.seconds)


def _answer(talk, question: str, settings):
  """The answer to a question; a talk that has grown too long starts anew with it."""
  try:
    return talk.ask(question, **settings)
  except ValueError as error:
    if not talk.turns:
      raise
    print(f"filax chat: {error} The talk starts anew.", file=sys.stderr)
  talk.forget()
  return talk.ask(question, **settings)


def _asked(args):
  """The question of the command line, or those of standard input."""
  return _questions() if args.question is None else [args.question]


def _questions():
  """Lines of standard input; a prompt sign only for a person."""
  if hasattr(sys.stdin, "reconfigure"):
    sys.stdin.reconfigure(errors="replace")  # A byte that is no UTF-8 ends no talk.
  while True:
    if sys.stdin.isatty():
      print("> ", end="", file=sys.stderr, flush=True)
    if not (line := sys.stdin.readline()):
      return
    if line.strip():
      yield line.strip()


def _say_error(args, question: str, error: Exception) -> None:
  """Why a question has no answer: a line of JSON, or words on stderr."""
  text = " ".join(str(error).split()) or type(error).__name__
  if args.json:
    print(json.dumps(dict(question=question, error=text, video=args.video)), flush=True)
  elif args.question is None:
    print(f"filax chat: {text}", file=sys.stderr)


def _say(args, talk, question: str, answer, before) -> None:
  """An answer as text, or all that is known of it as JSON."""
  if not args.json:
    print(answer.text, flush=True)
    return
  seconds = before | dict(answer.seconds)
  seconds["total"] = sum(seconds.values())
  print(
    json.dumps(
      dict(
        question=question,
        answer=answer.text,
        video=args.video,
        duration=round(talk.video.duration, 3),
        times=[round(t, 3) for t in talk.times],
        scenes=[
          checkpoint_options.scene_times(t, s) for t, s in zip(talk.times, talk.scenes, strict=True)
        ],
        selector=talk.processor.infer["selector"]["name"],
        stopped=answer.stopped,
        tokens=answer.tokens,
        prompt_tokens=answer.prompt_tokens,
        seconds={name: round(value, 3) for name, value in seconds.items()},
      )
    ),
    flush=True,
  )
