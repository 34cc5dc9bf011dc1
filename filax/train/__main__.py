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
"""

from collections.abc import Sequence
import contextlib
import pathlib
import sys
from typing import Any

from absl import logging
import jax
from ml_collections import ConfigDict

from data_pipelines.loader import Pipeline
from data_pipelines.synthesis import toy
from data_pipelines.tokenizers import check_vocabulary
from filax import build, cli
from filax.checkpoint import storage
from filax.parallel import distributed, ending
from filax.plan.flops import train_costs
from filax.train import checkpoint, command, folder, loop, plan_record
from filax.train.checkpoint import on_one_process, say


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  if {"-h", "--help"} & set(argv):
    print(__doc__.strip())
    return 0
  try:
    config, given = command.read(argv, workdir="where checkpoints and metrics go")
  except (ValueError, OSError) as error:
    leave(error)
    raise
  logging.set_verbosity(logging.FATAL)  # Orbax logs what it raises, with tracebacks, too.
  storage.quiet_background_writes()
  distributed.start()
  workdir = given["workdir"]
  with ending.together(), storage.full_disk_explained(workdir):
    storage.check_writable(workdir)
    pipeline = open_data(config, workdir)
    summary = loop.run(
      config, workdir, pipeline, train_costs, ingredients=pipeline.ingredients)
  say(
    f"{'Stopped' if summary['stopped'] else 'Finished'} at step {summary['steps']}: "
    f"{summary['steps'] - summary['first_step']} steps in {summary['seconds']:.0f} s, "
    f"{summary['frames_per_second']:,.0f} frames/s. {summary['checkpoint']}")
  return 0


def leave(error: Exception) -> None:
  """Tells the other processes, which would wait for this one, that its command is refused."""
  if distributed.is_alone():
    return
  print(f"filax train: {error}", file=sys.stderr, flush=True)
  with contextlib.suppress(ConnectionError):
    distributed.start()
    ending.end_all(str(error))


def open_data(config: ConfigDict, workdir: str) -> Pipeline:
  """The data of a config, checked against its model; leaves the tokenizer in the workdir."""
  local = folder.local(workdir)
  if config.debug_corpus:
    on_one_process(lambda: make_corpus(pathlib.Path(config.debug_corpus)))
  model = build.build_video_lm(config.model)
  check(config, model)
  pipeline = Pipeline(
    config.data, model.layout(), config.seed, config.batch, local / "quarantine.jsonl",
    planned=None if config.ignore_fingerprint else planned_media(workdir))
  check_vocabulary(pipeline.tokenizer, model.vocab)
  if jax.process_index() == 0:
    folder.publish(workdir, pathlib.Path(pipeline.tokenizer.save(local)))
  report = pipeline.report
  say(
    f"{report['samples']} samples ({len(report['too_long'])} too long, "
    f"{len(report['bad_records'])} bad records, {report['unreadable']} of {report['media']} media "
    f"unreadable) in {report['rows']} rows an epoch: {pipeline.samples_per_row:.2f} samples a row, "
    f"{pipeline.token_fill:.0%} of the positions, {pipeline.frame_fill:.0%} of the frames filled.")
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
      "or select uniformly in training and use it in config.infer.selector.")
  if model.selector.needs_single and config.data.time_prompt == "fila":
    raise ValueError(
      f"config.data.time_prompt='fila' states the times of groups, which "
      f"config.model.selector.name={name!r} only finds on the device. Set one of them differently.")


if __name__ == "__main__":
  sys.exit(cli.run(main, sys.argv[1:], "train"))
