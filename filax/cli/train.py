# SPDX-License-Identifier: Apache-2.0
"""filax train --config F[:args] --workdir D [--config.key=value ...]

Trains a model as a config says, and saves it to the folder D. The same command continues a run that
was stopped, with the batches and losses that it would have had without the stop.

  filax train --config configs/fila_stage4.py:debug --workdir runs/debug
      A tiny model on a tiny corpus made on the spot: a minute on a laptop.
  filax train --config configs/fila_stage4.py --workdir runs/stage4 \\
      --config.data.train='(("my.json","all"),)' --config.init_from=runs/stage3
      Your own LLaVA-style JSON, from the parameters of another run.
  filax train --config configs/lora_fila.py --workdir runs/mine --config.init_from=FOLDER \\
      --config.data.train='(("my.json","all"),)'
      Adapters over a model that stays as it is, on one accelerator. D names FOLDER as their base;
      if it has moved, --base names its new place.
  filax show --config configs/fila_stage4.py
      What would be trained, at which rates, and how many tokens a sample has.

D may be a bucket (gs://…, s3://…: extras gcs and s3). It gets:

  checkpoints/, config.json and the tokenizer
  metrics.jsonl, tensorboard/
  quarantine.jsonl      media that could not be read; their samples do not count in the loss. To
                        leave them out of another run, name this file in its config.data.exclude

Every config.log_every steps a line shows the loss, the accuracy on supervised tokens, learning
rates, speed, padding, MFU, time left, compilations and bad samples. The last line shows where the
time of all starts went.

  Stopping              Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2 or a closed terminal saves after the
                        running step. The exit code is then 0, or N with --exit-when-stopped N if
                        steps are left.
  One run at a time     A second run in D is refused. It takes over if the first has died or gave no
                        sign for 60 s (FILAX_LEASE_SECONDS).
  A run that hangs      makes no step for config.stall_seconds. It shows the stacks of all threads
                        and ends with code 3.
  Several hosts         Start the same command on each; the scripts in launch/ do that.
  Evaluation            --config.evals='(("held_out.json",500,200),)' asks the first 200 questions
                        of a manifest every 500 steps. --config.best=eval/held_out/accuracy keeps
                        the best checkpoint as D/best (configs/README.md).
  Profiling             --config.profile=10:15 writes a jax.profiler trace of steps 10 to 14 below
                        D/profile, for TensorBoard, XProf or Perfetto.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from filax import training
from filax.checkpoint.store import say
from filax.cli import config_flags
from filax.cli.lasting_output import lasting_outputs
from filax.train import goodput
from filax.train.signals import Interrupted, Signals

_EXIT_FLAG = "--exit-when-stopped"
_NO_BASE = "\0"  # No folder has this name.


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  if {"-h", "--help"} & set(argv):
    print((__doc__ or "").strip())  # python -OO keeps no texts.
    return 0
  try:
    argv, code_when_stopped = split_exit_code(argv)
    argv, base = split_option(argv, "--base", _NO_BASE)
    if not base:
      raise ValueError("--base is missing its value: the run, or released folder, of the base.")
    config, options = config_flags.read_config(argv, workdir="where checkpoints and metrics go")
  except (ValueError, OSError) as error:
    training.end_other_processes(error)
    raise
  base = base.replace(_NO_BASE, "")
  try:
    with lasting_outputs(), Signals() as signals:
      summary = training.run_training(config, options["workdir"], base=base, signals=signals)
  except Interrupted:
    say("Stopped before the first step; there is nothing to save.")
    return code_when_stopped
  say(summary_line(summary))
  say(goodput.goodput_line(summary["seconds_by_phase"]))
  return code_when_stopped if summary["stopped"] else 0


def summary_line(summary: Mapping[str, Any]) -> str:
  """What a run did, as one line of text."""
  verb = "Stopped" if summary["stopped"] else "Finished"
  count = summary["steps"] - summary["first_step"]
  return (
    f"{verb} at step {summary['steps']}: {count} steps in {summary['seconds']:.0f} s, "
    f"{summary['frames_per_second']:,.0f} frames/s. {summary['checkpoint']}"
  )


def split_option(argv: Sequence[str], option: str, default: str) -> tuple[list[str], str]:
  """argv without an option, and its last value; "" if missing."""
  rest = []
  value = default
  words = list(argv)
  while words:
    word = words.pop(0)
    name, equals, text = word.partition("=")
    if name != option:
      rest.append(word)
    elif equals:
      value = text
    else:
      has_value = bool(words) and not words[0].startswith("--")
      value = words.pop(0) if has_value else ""
  return rest, value


def split_exit_code(argv: Sequence[str]) -> tuple[list[str], int]:
  """argv without --exit-when-stopped, and its value.

  0 if it is not given, the last if twice.
  """
  rest, text = split_option(argv, _EXIT_FLAG, "0")
  if not (text.isascii() and text.isdigit() and int(text) < 256):
    raise ValueError(f"{_EXIT_FLAG} {text} is not an exit code. Set it to a number from 0 to 255.")
  return rest, int(text)
