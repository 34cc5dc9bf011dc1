# SPDX-License-Identifier: Apache-2.0
"""What a run takes from config.init_from besides parameters: its tokenizer, its vocabulary."""

from collections.abc import Mapping
import concurrent.futures
import multiprocessing
import os
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict

from data_pipelines.media import remote
from data_pipelines.text import tokenizer_folder
from filax import files, released
from filax.checkpoint import storage, store
from filax.checkpoint.store import say
from filax.models import components
from filax.parallel import distributed


def complete(config: ConfigDict, workdir: str) -> None:
  """Sets what a config takes from config.init_from.

  Call it before distributed.start, so that a mistake is named at once. Raises ValueError or
  OSError.
  """
  config.init_from = initial_checkpoint(config.init_from, workdir)
  config.data.tokenizer = first_tokenizer(config)
  take_vocabulary(config, workdir)


def initial_checkpoint(init_from: str, workdir: str) -> str:
  """config.init_from, or the checkpoint of the released folder that it names.

  A run that continues needs its path only, so nothing is converted then. Raises FileNotFoundError
  for a folder without a checkpoint, before any data are read.
  """
  if store.exists(workdir):
    return released.cached_checkpoint(init_from)
  storage.check_readable(init_from)
  checkpoint = checkpoint_before_joining(init_from)
  if checkpoint:
    try:
      store.read_config(checkpoint)
    except store.NoCheckpoint as error:
      raise store.NoCheckpoint(f"config.init_from: {error}") from error
  return checkpoint


def checkpoint_before_joining(folder: str) -> str:
  """The checkpoint of a run or a released folder.

  Does not start jax's backend.

  A process whose backend runs can join no others. So if others are to be joined, a new process
  converts a released folder. Raises ValueError or OSError.
  """
  if distributed.is_alone() or not released.is_released(folder):
    return released.find_checkpoint(folder)
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, spawn, _use_cpu) as pool:
    try:
      checkpoint, problem = pool.submit(_convert, folder).result()
    except concurrent.futures.BrokenExecutor:
      problem = f"The process that converted {folder} was killed, perhaps for lack of memory."
  if problem:
    raise ValueError(problem)
  return checkpoint


def _use_cpu() -> None:
  jax.config.update("jax_platforms", "cpu")  # The accelerator is that of the run.


def _convert(folder: str) -> tuple[str, str]:
  """(checkpoint, "") of a released folder, or ("", reason).

  The reason says why there is none.
  """
  try:
    return released.find_checkpoint(folder), ""
  except (ValueError, OSError) as error:
    return "", str(error)


def first_tokenizer(config: ConfigDict) -> str:
  """config.data.tokenizer; if there is no such file, the folder of config.init_from's."""
  configured = config.data.tokenizer
  if not config.init_from or remote.exists(configured):
    return configured
  source = epath.Path(files.absolute(config.init_from))
  for folder in (source, source.parent, source.parent.parent):  # A run, or one of its steps.
    if tokenizer_folder.load_if_present(folder) is not None:
      say(f"config.data.tokenizer={configured} is not there: taking that of {folder}.")
      return str(folder)
  return configured


def take_vocabulary(config: ConfigDict, workdir: str) -> None:
  """Sets config.model.llm.vocab to the size of the first parameters' table of embeddings.

  Released models may have more rows than their variant. Example: Qwen2-7B has 152,064 rows, and the
  LLaVA-OneVision of transformers made from it has 152,128. A run that continues has its own table.
  A vocab that the config itself sets stays.
  """
  llm = config.model.get("llm", {})
  source = workdir if store.exists(workdir) else config.init_from
  if not config.init_from or "vocab" in llm:
    return
  try:
    stored = store.read_config(source)["model"].get("llm", {})
  except store.NoCheckpoint:  # The run itself says what is wrong with its checkpoints.
    return
  _take_rows(config, stored, source)


def plan_vocabulary(config: ConfigDict) -> None:
  """As `take_vocabulary`, for a config that is only looked at.

  Nothing is converted, and a config.init_from that is not on this machine is left out. Raises
  ValueError or OSError for a released folder that training would refuse.
  """
  llm = config.model.get("llm", {})
  source = files.absolute(config.init_from)
  if not config.init_from or "vocab" in llm or not os.path.exists(source):
    return
  if released.is_released(source):
    stored = released.described_model(source).get("llm", {})
  else:
    stored = store.read_config(source)["model"].get("llm", {})
  _take_rows(config, stored, source)


def _take_rows(config: ConfigDict, stored: Mapping[str, Any], source: str) -> None:
  """Sets config.model.llm.vocab to that of `stored`.

  An llm of another kind changes nothing.
  """
  llm = config.model.get("llm", {})
  if stored.get("name") != llm.get("name"):
    return
  rows = components.build("llm", stored).vocab
  if rows == components.build("llm", llm).vocab:
    return
  say(f"config.model.llm.vocab={rows}: the number of embeddings in {source}.")
  with config.unlocked():
    config.model.llm.vocab = rows
