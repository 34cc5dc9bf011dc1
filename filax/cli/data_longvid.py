# SPDX-License-Identifier: Apache-2.0
"""filax data longvid makes questions about long videos from annotated sources.

  filax data longvid --source htstep=annotations.json,taxonomy.csv --media htstep=videos \\
      --out data/longvid

data_pipelines/synthesis/README.md lists the sources and their files. `filax data verify DIR` checks
the questions. The same annotations, options and label answers give the same files, for any number
of workers.

Exit code 0: all good; 1: some records were left out (bad.txt lists them); 2: nothing could be done.
"""

import argparse
from collections.abc import Sequence
import contextlib
import json
import os
from typing import Any

from filax import settings
from filax.cli import options

LABELS = ("rules", "openai", "local")


def add_longvid_options(parser: argparse.ArgumentParser) -> None:
  """The options of `filax data longvid`."""
  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add(
    "--source",
    action="append",
    required=True,
    metavar="NAME=FILES",
    help="a source and its files, separated by commas; a video in two sources counts for the first",
  )
  add("--media", action="append", default=[], metavar="NAME=DIR", help="folder of a source's media")
  add("--out", required=True, help="folder: new, empty, or of the same recipe")
  add(
    "--tasks",
    default="caption,grounding,order,scenes,count",
    help="kinds of questions [all: %(default)s]",
  )
  add(
    "--per-video",
    type=options.whole_number(0),
    default=8,
    help="most questions per video [8]; 0: all",
  )
  add(
    "--per-task",
    type=options.whole_number(0),
    default=0,
    help="most training questions per task [0: all]",
  )
  options.add_held_out(parser)
  add("--dump-tracks", action="store_true", help="write the labelled tracks, and no questions")
  add(
    "--shards", type=options.whole_number(1, 4096), default=64, help="number of output files [64]"
  )
  add(
    "--workers",
    type=options.whole_number(1),
    default=None,
    help="processes; default: all processors",
  )
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=42,
    help="another one makes other questions [42]",
  )
  add("--force", action="store_true", help="replace another output")
  add("--json", action="store_true", help="print the counts as JSON")
  _add_label_options(parser)
  parser.set_defaults(run=make_longvid)


def _add_label_options(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument_group("labels of events and places").add_argument
  add("--events", choices=LABELS, default="rules", help="what makes the labels [rules]")
  add("--model", default="", help="the served model's name, or the checkpoint of --events local")
  add("--url", default="", help="an OpenAI-compatible server, e.g. http://localhost:8000/v1")
  add("--key-env", default="", metavar="VAR", help="environment variable that holds its key")
  add("--cache", default="", metavar="FILE", help="stored labels [OUT/../label-cache.sqlite]")
  add("--cache-only", action="store_true", help="ask no model: all labels are in the cache")


def make_longvid(args: argparse.Namespace) -> int:
  """Makes the questions; returns the exit code."""
  from data_pipelines import chunk_pool
  from data_pipelines.synthesis.longvid.factory import LongVidOptions, write_longvid
  from data_pipelines.synthesis.longvid.question_files import TASKS, QuestionRules

  tasks = tuple(args.tasks.split(","))
  for task in tasks:
    if task not in TASKS:
      raise ValueError(f"--tasks: there is no task {task!r}. The tasks are: {', '.join(TASKS)}.")
  rules = QuestionRules(
    tasks=tuple(dict.fromkeys(tasks)),
    per_video=args.per_video,
    held_out=args.held_out,
    seed=args.seed,
    labels=args.events,
  )
  wanted = LongVidOptions(
    rules=rules,
    per_task=args.per_task,
    shards=args.shards,
    exclude=tuple(args.exclude_ids),
    only_tracks=args.dump_tracks,
  )
  inputs = _inputs(args.source, args.media)
  with contextlib.ExitStack() as stack:
    labeller, label_model = _labeller(args, stack)
    result = write_longvid(
      inputs,
      args.out,
      wanted,
      labeller=labeller,
      label_model=label_model,
      processes=args.workers or chunk_pool.default_processes(),
      force=args.force,
    )
  if args.json:
    print(json.dumps(result.figures, indent=2))
  elif result.was_complete:
    print(f"{result.out} is complete already: nothing was written.")
  else:
    print("\n".join(_lines(result)))
  return 1 if result.report.bad else 0


def _inputs(sources: Sequence[str], media: Sequence[str]) -> list[Any]:
  """The sources of the command line with their readers."""
  from data_pipelines.synthesis.longvid.track_files import TrackInput
  from data_pipelines.synthesis.sources.registry import find_source

  roots = dict(_named(text, "--media", "DIR") for text in media)
  inputs = []
  for text in sources:
    name, listed = _named(text, "--source", "FILES")
    paths = tuple(listed.split(","))
    for path in paths:
      if not os.path.isfile(path):
        raise ValueError(f"--source {name}: there is no file {path!r}.")
    source = find_source(name)
    reading = source.read_tracks, source.licence, source.divide_reading
    inputs.append(TrackInput(name, paths, roots.pop(name, ""), *reading))
  if roots:
    raise ValueError(f"--media names {', '.join(roots)}, which no --source does.")
  return inputs


def _named(text: str, option: str, value: str) -> tuple[str, str]:
  """Parses NAME=VALUE."""
  name, sign, content = text.partition("=")
  if not name or not sign or not content:
    raise ValueError(f"{option} {text!r} is not NAME={value}.")
  return name, content


def _labeller(args: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Any, dict]:
  """(the labeller, what identifies it); (None, {}) for rules."""
  from data_pipelines.synthesis.labels import cache

  if args.events == "rules":
    if args.model or args.url or args.cache or args.cache_only:
      raise ValueError("--model, --url and --cache are for --events openai or local.")
    return None, {}
  if not args.model:
    raise ValueError(f"--events {args.events} needs --model.")
  name = _checkpoint_name(args.model) if args.events == "local" else args.model
  ask_all = None if args.cache_only else _asker(args)
  model = cache.LabelModel(args.events, name, ask_all, args.seed)
  path = args.cache or os.path.join(
    os.path.dirname(os.path.abspath(args.out)), "label-cache.sqlite"
  )
  answers = cache.AnswerCache(path)
  stack.callback(answers.commit_and_close)
  facts = dict(kind=args.events, model=name, prompt=cache.PROMPT_VERSION, seed=args.seed)
  return cache.CachedLabels(model, answers), facts


def _asker(args: argparse.Namespace) -> Any:
  """What asks the label model."""
  if args.events == "local":
    from data_pipelines.synthesis.labels.local import in_batches

    return in_batches(_checkpoint_answers(args.model))
  from data_pipelines.synthesis.labels.endpoint import LabelEndpoint

  if not args.url:
    raise ValueError("--events openai needs --url.")
  key = os.environ.get(args.key_env, "") if args.key_env else ""
  if args.key_env and not key:
    raise ValueError(f"--key-env: the environment variable {args.key_env} is empty.")
  return LabelEndpoint(args.url, args.model, key, args.seed).ask_all


def _checkpoint_name(checkpoint: str) -> str:
  """The name of a checkpoint, without its folders.

  A moved one keeps its answers.
  """
  return os.path.basename(os.path.normpath(checkpoint))


def _checkpoint_answers(checkpoint: str) -> Any:
  """A function that answers prompts with a checkpoint, without media, greedily."""
  from data_pipelines.sample import Turn
  from data_pipelines.synthesis.labels.cache import MOST_TOKENS
  from filax.infer.session import load

  session = load(checkpoint)
  processor = session.processor

  def answer_prompts(prompts: Sequence[str]) -> list[str]:
    encoded = []
    for prompt in prompts:
      tokens, _ = processor.encode_prompt([Turn("user", (prompt,))], [])
      encoded.append(tokens)
    generated = session.generate(encoded, max_new_tokens=MOST_TOKENS, temperature=0.0)
    return [processor.answer_text(tokens) for tokens in generated.tokens]

  return answer_prompts


def _lines(result) -> list[str]:
  """The counts as text."""
  counts = result.figures
  lines = []
  for reason, count in counts["tracks"].items():
    lines.append(f"{count:>9} tracks of {reason}")
  for source, tasks in counts.get("by_source", {}).items():
    for task, count in tasks.items():
      lines.append(f"{count:>9} {task} of {source}")
  for reason, count in counts.get("rejected", {}).items():
    lines.append(f"{count:>9} not asked, {reason}")
  if "questions" in counts:
    lines.append(
      f"{counts['questions']} training questions, {counts['held_out']} held out. Media are "
      f"relative to {result.root or 'their own folders'}."
    )
  if result.report.bad:
    lines.append(f"{counts['bad_records']} records were left out: see {result.out / 'bad.txt'}.")
  lines.append(f"Wrote {result.out}.")
  return lines
