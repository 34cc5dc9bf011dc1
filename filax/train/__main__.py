# SPDX-License-Identifier: Apache-2.0
"""filax train --config F[:args] --workdir D [--config.key=value ...]

Trains a config and saves to D. The same command again goes on where D stands: after a kill, a crash
or SIGTERM (which saves first) the batches and losses are those of a run that was never stopped.

  filax train --config configs/fila_stage4.py:debug --workdir runs/debug
      A tiny model on a tiny corpus made on the spot: a minute on a laptop.
  filax train --config configs/fila_stage4.py --workdir runs/stage4 \\
      --config.data.train='(("my.json","all"),)' --config.init_from=runs/stage3
      Your own LLaVA-style JSON, from the parameters of another run.
  filax show --config configs/fila_stage4.py
      What would be trained, at which rates, and how many tokens a sample has.

D is a folder or a bucket (gs://…, s3://…: extras gcs and s3), tried before work starts. It gets
checkpoints/, config.json, the tokenizer, metrics.jsonl, tensorboard/ and quarantine.jsonl
(media that could not be read; list it in config.data.exclude to leave them out). A file that is
away at a later start does not change the plan: its samples are masked. One line a
config.log_every steps shows loss, accuracy on supervised tokens, learning rates, tokens and frames
per second, padding, MFU, time left, compilations and bad samples. On several hosts start the same
command on each (launch/). JAX_COMPILATION_CACHE_DIR=folder makes restarts compile nothing.

Ctrl-C or SIGTERM saves after the running step and ends with code 0, or with N if the last step was
not reached and --exit-when-stopped N is given: launchers pass 75, and start such a run again.
One run at a time trains in D: a second is refused, and takes over when the first has died or gave
no sign for 60 s (FILAX_LEASE_SECONDS). A run that makes no step for config.stall_seconds shows the
stacks of all threads and ends with code 3.
"""

from collections.abc import Callable, Sequence
import contextlib
import pathlib
import sys
from typing import Any

from absl import logging
import jax
from ml_collections import ConfigDict

from data_pipelines.loader import Pipeline
from data_pipelines.synthesis import toy
from data_pipelines.text.tokenizers import check_vocabulary
from filax import cli
from filax.checkpoint import storage
from filax.models import components
from filax.parallel import distributed, ending
from filax.plan.flops import train_costs
from filax.train import checkpoint, command, folder, loop, plan_record
from filax.train.checkpoint import on_one_process, say
from filax.train.hold import hold
from filax.train.signals import Interrupted, Signals

_EXIT_FLAG = "--exit-when-stopped"


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  if {"-h", "--help"} & set(argv):
    print(__doc__.strip())
    return 0
  try:
    argv, code_when_stopped = split_exit_code(argv)
    config, given = command.read(argv, workdir="where checkpoints and metrics go")
  except (ValueError, OSError) as error:
    leave(error)
    raise
  logging.set_verbosity(logging.FATAL)  # Orbax logs what it raises, with tracebacks, too.
  storage.quiet_background_writes()
  try:
    with Signals() as signals:
      summary = train(config, given["workdir"], signals)
  except Interrupted:
    say("Stopped before the first step; there is nothing to save.")
    return code_when_stopped
  say(
    f"{'Stopped' if summary['stopped'] else 'Finished'} at step {summary['steps']}: "
    f"{summary['steps'] - summary['first_step']} steps in {summary['seconds']:.0f} s, "
    f"{summary['frames_per_second']:,.0f} frames/s. {summary['checkpoint']}"
  )
  return code_when_stopped if summary["stopped"] else 0


def leave(error: Exception) -> None:
  """Tells the other processes, which would wait for this one, that its command is refused."""
  if distributed.is_alone():
    return
  print(f"filax train: {error}", file=sys.stderr, flush=True)
  with contextlib.suppress(ConnectionError):
    distributed.start()
    ending.end_all(str(error))


def train(config: ConfigDict, workdir: str, signals: Signals) -> dict[str, Any]:
  """Trains in a workdir that no other run may use meanwhile; the summary of loop.run."""
  distributed.start()
  with ending.together(), storage.full_disk_explained(workdir):
    storage.check_writable(workdir)
    with hold(workdir) as lease:
      pipeline = open_data(config, workdir, lease.check if lease else None)
      return loop.run(
        config,
        workdir,
        pipeline,
        train_costs,
        ingredients=pipeline.ingredients,
        lease=lease,
        signals=signals,
      )


def split_exit_code(argv: Sequence[str]) -> tuple[list[str], int]:
  """argv without --exit-when-stopped, and its value: 0 if it is not given, the last if twice."""
  rest = []
  text = "0"
  items = iter(argv)
  for item in items:
    name, given, value = item.partition("=")
    if name != _EXIT_FLAG:
      rest.append(item)
    else:
      text = value if given else next(items, "")
  if not (text.isascii() and text.isdigit() and int(text) < 256):
    raise ValueError(f"{_EXIT_FLAG} {text} is no exit code. Set it to a number from 0 to 255.")
  return rest, int(text)


def open_data(
  config: ConfigDict, workdir: str, check_lease: Callable[[], None] | None = None
) -> Pipeline:
  """The data of a config, checked against its model; leaves the tokenizer in the workdir.

  `check_lease` raises if the workdir is no longer this run's.
  """
  local = folder.local(workdir)
  if config.debug_corpus:
    on_one_process(lambda: make_corpus(pathlib.Path(config.debug_corpus)))
  model = components.build_video_lm(config.model)
  check(config, model)
  pipeline = Pipeline(
    config.data,
    model.layout(),
    config.seed,
    config.batch,
    local / "quarantine.jsonl",
    planned=None if config.ignore_fingerprint else planned_media(workdir),
  )
  check_vocabulary(pipeline.tokenizer, model.vocab)
  if jax.process_index() == 0:
    if check_lease is not None:
      check_lease()  # Reading the data may have taken long.
    folder.publish(workdir, pathlib.Path(pipeline.tokenizer.save(local)))
  report = pipeline.report
  say(
    f"{report['samples']} samples ({len(report['too_long'])} too long, "
    f"{len(report['bad_records'])} bad records, {report['unreadable']} of {report['media']} media "
    f"unreadable) in {report['rows']} rows an epoch: {pipeline.samples_per_row:.2f} samples a row, "
    f"{pipeline.token_fill:.0%} of the positions, {pipeline.frame_fill:.0%} of the frames filled."
  )
  return pipeline


def planned_media(workdir: str) -> dict[str, str] | None:
  """The facts of media that a run with checkpoints was planned with; None if it has none."""
  return plan_record.read(workdir)["media"] if checkpoint.exists(workdir) else None


def make_corpus(folder: pathlib.Path) -> None:
  """A tiny corpus in `folder`, if there is none."""
  if not (folder / "tokenizer.model").exists():  # Written last.
    say(f"Making a tiny corpus in {folder}.")
    toy.tiny_corpus(folder)


def check(config: ConfigDict, model: Any) -> None:
  """Raises ValueError if the data cannot be what the training selector needs."""
  name = config.model.selector.name
  if model.selector.needs_single and config.data.packing:
    raise ValueError(
      f"config.model.selector.name={name!r} needs one sample a row. Set config.data.packing=False, "
      "or select uniformly in training and use it in config.infer.selector."
    )
  if model.selector.needs_single and config.data.time_prompt == "fila":
    raise ValueError(
      f"config.data.time_prompt='fila' states the times of groups, which "
      f"config.model.selector.name={name!r} only finds on the device. Set one of them differently."
    )


if __name__ == "__main__":
  sys.exit(cli.run(main, sys.argv[1:], "train"))
