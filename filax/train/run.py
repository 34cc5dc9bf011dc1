# SPDX-License-Identifier: Apache-2.0
"""A training run from a config: opens the data, then trains.

This is the only module of filax/train that reads data.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import pathlib
from typing import Any

from absl import logging
from etils import epath
import jax
from ml_collections import ConfigDict

from data_pipelines.loader import Pipeline, make_plan
from data_pipelines.synthesis import toy
from data_pipelines.text import tokenizer_folder
from data_pipelines.text.tokenizers import check_vocabulary
from filax import files, settings
from filax.checkpoint import run_folder, storage, store
from filax.checkpoint.store import on_one_process, say
from filax.costs import train_costs
from filax.disk_errors import is_disk_full
from filax.models import components
from filax.parallel import distributed, ending
from filax.train import allocator, goodput, loop, plan_record
from filax.train.hold import hold_workdir
from filax.train.hooks import Hook
from filax.train.signals import Signals
from filax.train.workdir import QUARANTINE, local_folder, publish_file


def train(
  config: ConfigDict,
  workdir: str,
  signals: Signals,
  hooks: Sequence[Hook] = (),
  check: Callable[[ConfigDict], None] | None = None,
) -> dict[str, Any]:
  """Trains in a workdir, locked against other runs -> summary.

  `filax.run_training` completes the config, and then calls this function.

  hooks: called after the run's own (filax/train/hooks.py), with those of config.evals. check:
  raises ValueError if the config cannot be used; it is called before data are read. Summary and
  exceptions are those of loop.train_pipeline; ValueError for a key that FiLax does not have.
  """
  settings.check_names(config)
  if config.get("evals") and not hooks:
    raise ValueError(
      "config.evals is set, but no hook evaluates. Call filax.run_training(config, workdir), which "
      "adds such hooks."
    )
  workdir = files.absolute(workdir)  # A hook may change the working folder.
  clock = goodput.PhaseClock()
  storage.quiet_background_writes()
  distributed.start()
  allocator.keep_freed_memory()
  with _quiet_absl(), ending.together(), storage.full_disk_explained(workdir):
    storage.check_writable(workdir)
    run_folder.check_may_save(workdir)
    if check is not None:
      check(config)
    with hold_workdir(workdir) as lease:
      pipeline = open_data(config, workdir, lease.check_before_save if lease else None)
      return loop.train_pipeline(
        config,
        workdir,
        pipeline,
        train_costs,
        ingredients=pipeline.ingredients,
        lease=lease,
        signals=signals,
        hooks=hooks,
        clock=clock,
      )


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
  """Silences absl's log meanwhile: Orbax also logs its exceptions, with tracebacks."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def open_data(
  config: ConfigDict, workdir: str, check_lease: Callable[[], None] | None = None
) -> Pipeline:
  """The data of a config, checked against its model.

  Copies the tokenizer to the workdir, unless its checkpoints have one. check_lease: raises if the
  workdir is no longer this run's.
  """
  local = local_folder(workdir)
  quarantine = local / QUARANTINE
  if config.debug_corpus:
    on_one_process(lambda: make_corpus(pathlib.Path(config.debug_corpus)))
  model = components.build_video_lm(config.model)
  check_selector(config, model)
  plan = make_plan(
    config.data,
    model.layout(),
    config.seed,
    config.batch,
    quarantine=quarantine,
    planned=None if config.ignore_fingerprint else planned_media(workdir),
  )
  check_vocabulary(plan.tokenizer, model.vocab)
  if jax.process_index() == 0 and not keeps_tokenizer(config, workdir):
    if check_lease is not None:
      check_lease()  # Reading the data may have taken longer than the lease.
    for file in plan.tokenizer.save(local):
      publish_file(workdir, file)
    for folder in {epath.Path(local), epath.Path(files.absolute(workdir))}:
      tokenizer_folder.remove_others(folder, plan.tokenizer)
  report = plan.report
  if files.is_bucket(workdir):
    say(f"Each host lists the media that it cannot read in {quarantine}.")
  say(
    f"{report['samples']} samples ({len(report['too_long'])} too long, "
    f"{len(report['bad_records'])} bad records, {report['unreadable']} of {report['media']} media "
    f"unreadable) in {report['rows']} rows an epoch: {report['samples_per_row']:.2f} samples a "
    f"row, {report['token_fill']:.0%} of the positions, {report['frame_fill']:.0%} of the frames "
    "filled."
  )
  if report["bad_records"]:
    say(f"The first bad record is {report['bad_records'][0]}; filax data check lists all of them.")
  for sentence in report["unread"]:
    say(sentence)
  if report["unwritable"]:
    say(
      f"{report['unwritable']} conversations are left out, because the tokenizer's chat template "
      f"cannot write them: see {quarantine}. The first is {report['unwritable_records'][0]}"
    )
  if report["needs"]:
    say(f"Of those that are too long, {', '.join(report['needs'])}.")
  for shape, rows in zip(plan.row_shapes, report["rows_of_shape"], strict=True):
    if not rows:
      say(
        f"No sample is in a row of {shape.frames} frames, {shape.images} images and "
        f"{shape.length} positions: each goes to the shortest of config.data.rows that holds it."
      )
  return Pipeline(plan)


def keeps_tokenizer(config: ConfigDict, workdir: str) -> bool:
  """Whether the workdir's tokenizer is that of its checkpoints, and stays.

  Another one changes the plan of rows, so the run will be refused.
  """
  if config.ignore_fingerprint or not store.exists(workdir):
    return False
  try:
    return tokenizer_folder.load_if_present(epath.Path(files.absolute(workdir))) is not None
  except ValueError:  # It is damaged.
    return False


def planned_media(workdir: str) -> dict[str, str] | None:
  """The media facts in the plan of a run with checkpoints.

  None if it has no checkpoint.
  """
  return plan_record.read_plan(workdir)["media"] if store.exists(workdir) else None


def make_corpus(folder: pathlib.Path) -> None:
  """Makes a tiny corpus in config.debug_corpus, if there is none."""
  if (folder / "tokenizer.model").exists():  # Written last.
    return
  say(f"Making a tiny corpus in {folder}.")
  try:
    toy.tiny_corpus(folder)
  except OSError as error:
    if is_disk_full(error):
      raise
    raise ValueError(
      f"config.debug_corpus={str(folder)!r} cannot be written: {error.strerror or error}. Set it "
      "to a folder that can be written."
    ) from error


def check_selector(config: ConfigDict, model: Any) -> None:
  """Raises ValueError if config.data does not suit the selector of config.model."""
  name = config.model.selector.name
  if not model.selector.needs_single:
    return
  if config.data.packing:
    raise ValueError(
      f"config.model.selector.name={name!r} needs one sample a row. Set config.data.packing=False, "
      "or select uniformly in training and use it in config.infer.selector."
    )
  if config.data.time_prompt == "fila":
    raise ValueError(
      f"config.data.time_prompt='fila' states the times of groups, which "
      f"config.model.selector.name={name!r} only finds on the device. Set one of them differently."
    )
  size = model.selector.size
  sampling = config.data.sampling
  for frames, *_ in config.data.rows:
    if not frames:
      continue
    shown = model.selector.groups(frames) * size  # The text has a place for each of them.
    if sampling.name != "uniform" or not shown == sampling.frames == frames:
      raise ValueError(
        f"config.model.selector.name={name!r} makes {shown // size} groups of {size} frames of a "
        f"row, so in training every video must have {shown} frames. Set config.data.sampling to "
        f"uniform with {shown} frames and config.data.rows to as many, or select uniformly in "
        "training and use it in config.infer.selector."
      )
