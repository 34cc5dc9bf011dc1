# SPDX-License-Identifier: Apache-2.0
"""filax <verb> ...: the commands of FiLax, one table."""

import importlib
import sys

from filax import cli

VERBS = {  # verb -> (module:function of argv, what it does)
  "demo": ("filax.demo.__main__:main", "make a corpus, train on it, answer, write a report"),
  "data": ("filax.data.__main__:main", "check a manifest, or build it into ArrayRecord files"),
  "show": ("filax.show.__main__:main", "print a config, its parameters, sharding and lengths"),
  "train": ("filax.train.__main__:main", "train a config; the same command resumes"),
  "evals": ("filax.evals.__main__:main", "score a checkpoint on a manifest of questions"),
  "chat": ("filax.infer.__main__:chat", "ask a checkpoint about a video"),
  "scenes": ("filax.infer.__main__:scenes", "draw the scenes that a checkpoint selects in a video"),
  "plan": ("filax.plan.__main__:main", "what a train step takes of a TPU slice, without one"),
  "flops": ("filax.plan.prefill:main", "the work of reading videos of given lengths"),
  "analyze": ("filax.evals.analyze:main", "which visual tokens the layers of a model need"),
  "convert": ("filax.convert.__main__:main", "weights to and from PyTorch, with evidence"),
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
    return cli.run(lambda _: print(usage()), [], "help")
  verb, *rest = argv
  if verb not in VERBS:
    print(f"filax: there is no verb {verb!r}.\n{usage()}", file=sys.stderr)
    return 2
  module, _, function = VERBS[verb][0].partition(":")
  return cli.run(getattr(importlib.import_module(module), function), rest, verb)


if __name__ == "__main__":
  sys.exit(main())
