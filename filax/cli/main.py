# SPDX-License-Identifier: Apache-2.0
"""filax <verb> ...: the table of commands.

Only what is loaded anyway is imported here: Ctrl-C can be met once this module is there.
"""

import sys

VERBS = {  # verb -> (module with a main(argv), one line of help)
  "demo": ("filax.cli.demo", "make a corpus, train on it, answer, write a report"),
  "data": ("filax.cli.data", "check, look at, reformat, make and verify training data"),
  "show": ("filax.cli.show", "print a config, its parameters, sharding and lengths"),
  "train": ("filax.cli.train", "train a config; the same command resumes"),
  "evals": ("filax.cli.evals", "score a checkpoint on benchmarks or questions of your own"),
  "chat": ("filax.cli.chat", "ask a checkpoint about a video"),
  "watch": ("filax.cli.watch", "ask about a video while it plays: a file, a camera, a stream"),
  "serve": ("filax.cli.serve", "answer requests over HTTP, as OpenAI's API does"),
  "scenes": ("filax.cli.scenes", "draw the scenes that a checkpoint selects in a video"),
  "plan": ("filax.cli.plan", "compute memory and time of a train step on a TPU slice"),
  "flops": ("filax.cli.flops", "compute the FLOPs of reading videos of given lengths"),
  "study": ("filax.cli.study", "test the claims of a paper: train models, compare their scores"),
  "analyze": ("filax.cli.analyze", "measure which visual tokens the layers of a model need"),
  "push": ("filax.cli.push", "publish a run on the Hugging Face hub, with a model card"),
  "doctor": ("filax.cli.doctor", "show what is installed, the devices, and what is missing"),
  "convert": ("filax.cli.convert", "convert weights from and to PyTorch, and report every tensor"),
}


def usage() -> str:
  """The help of `filax` itself: one line per verb."""
  width = max(map(len, VERBS))
  lines = [
    "usage: filax <verb> [options]      (filax <verb> --help explains one)",
    "       filax --version",
    "",
  ]
  for verb, (_, text) in VERBS.items():
    lines.append(f"  {verb:<{width}}  {text}")
  return "\n".join(lines)


def version() -> str:
  """The installed version; "not installed" without one."""
  import importlib.metadata

  try:
    return importlib.metadata.version("filax")
  except importlib.metadata.PackageNotFoundError:
    return "not installed"


def main(argv: list[str] | None = None) -> int:
  """Runs a verb; returns the exit code."""
  try:
    from filax.cli import standard_streams, utf8

    standard_streams.open_closed_streams()
    if argv is None:
      utf8.restart_in_utf8()
      argv = sys.argv[1:]
    return _run(argv)
  except KeyboardInterrupt:  # It came before the verb began, or after its end.
    print("filax: stopped.", file=sys.stderr)
    return 130


def _run(argv: list[str]) -> int:
  """`main`, where Ctrl-C that no verb meets may leave it."""
  import importlib

  from filax.cli import errors

  if not argv or argv[0] in ("-h", "--help", "help"):
    return errors.run_verb(lambda _: print(usage()), [], "help")
  if argv[0] == "--version":
    return errors.run_verb(lambda _: print(f"filax {version()}"), [], "version")
  verb, *rest = argv
  if verb not in VERBS:
    print(f"filax: there is no verb {verb!r}.\n{usage()}", file=sys.stderr)
    return 2
  name, _ = VERBS[verb]

  def import_and_run(argv) -> int | None:
    return importlib.import_module(name).main(argv)  # Ctrl-C is met while it is imported, too.

  return errors.run_verb(import_and_run, rest, verb)
