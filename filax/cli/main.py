# SPDX-License-Identifier: Apache-2.0
"""filax <verb> ...: the commands of FiLax, one table."""

import importlib
import sys

from filax.cli import errors

VERBS = {  # verb -> (module with a main(argv), what it does)
  "demo": ("filax.cli.demo", "make a corpus, train on it, answer, write a report"),
  "data": ("filax.cli.data", "check a manifest, or build it into ArrayRecord files"),
  "show": ("filax.cli.show", "print a config, its parameters, sharding and lengths"),
  "train": ("filax.cli.train", "train a config; the same command resumes"),
  "evals": ("filax.cli.evals", "score a checkpoint on a manifest of questions"),
  "chat": ("filax.cli.chat", "ask a checkpoint about a video"),
  "scenes": ("filax.cli.scenes", "draw the scenes that a checkpoint selects in a video"),
  "plan": ("filax.cli.plan", "what a train step takes of a TPU slice, without one"),
  "flops": ("filax.cli.flops", "the work of reading videos of given lengths"),
  "analyze": ("filax.cli.analyze", "which visual tokens the layers of a model need"),
  "convert": ("filax.cli.convert", "weights to and from PyTorch, with evidence"),
}


def usage() -> str:
  width = max(map(len, VERBS))
  rows = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
  return "\n".join(
    ["usage: filax <verb> [options]      (filax <verb> --help explains one)", "", *rows]
  )


def main(argv: list[str] | None = None) -> int:
  """Runs a verb; returns the exit code."""
  argv = sys.argv[1:] if argv is None else argv
  if not argv or argv[0] in ("-h", "--help", "help"):
    return errors.run(lambda _: print(usage()), [], "help")
  verb, *rest = argv
  if verb not in VERBS:
    print(f"filax: there is no verb {verb!r}.\n{usage()}", file=sys.stderr)
    return 2
  module = importlib.import_module(VERBS[verb][0])
  return errors.run(module.main, rest, verb)
