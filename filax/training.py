# SPDX-License-Identifier: Apache-2.0
"""Training from Python, with everything that `filax train` does.

config = filax.load_config("fila_stage4:debug")
config.steps = 6
summary = filax.run_training(config, "runs/debug")
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.machinery
import os
import sys
import threading
import types
from typing import Any

from ml_collections import ConfigDict

from filax import files, placeholders, settings, shipped_configs, starting_point
from filax.checkpoint import base as adapter_base
from filax.checkpoint.tuples import as_tuples
from filax.infer.config_check import check_infer
from filax.parallel import distributed, ending
from filax.parallel.mesh import without_mesh
from filax.train.hooks import Hook
from filax.train.run import train
from filax.train.signals import Signals

_RUN = threading.Lock()  # Held while a run of this process goes on.


def load_config(name: str | os.PathLike[str]) -> ConfigDict:
  """The config "FILE:arguments", as `filax train --config` takes it.

    config = filax.load_config("fila_stage4:debug")
    config.data.train = (("my.json", "all"),)

  FILE: a Python file with a get_config, or the name of a config that FiLax ships. Raises ValueError
  if there is no such config.
  """
  file, colon, arguments = os.path.expanduser(os.fspath(name)).partition(":")
  path = shipped_configs.find_file(file) if file else ""
  if not os.path.isfile(path):
    raise ValueError(f"There is no config {file}. Name a Python file with a get_config(arg).")
  shipped_configs.make_importable()
  loader = importlib.machinery.SourceFileLoader("loaded_config", path)
  module = types.ModuleType(loader.name)
  module.__file__ = path
  loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"{path} is not a config: it has no get_config(arg).")
  config = module.get_config(arguments) if colon else module.get_config()
  placeholders.lock(config)
  return config


@without_mesh()
def run_training(
  config: ConfigDict | Mapping[str, Any] | str,
  workdir: str | os.PathLike[str],
  *,
  hooks: Sequence[Hook] = (),
  base: str | os.PathLike[str] = "",
  signals: Signals | None = None,
) -> dict[str, Any]:
  """Trains as `filax train` does; the same call continues a run.

    config = filax.load_config("fila_stage4:debug")
    config.steps = 6
    print(filax.run_training(config, "runs/debug")["checkpoint"])

  config: complete, as from load_config, or its name; it is not changed.
  hooks: yours, called after those of config.evals (filax.train.hooks).
  base: the new place of the base of adapters.
  signals: active already; a signal then only stops the run.

  Returns a summary, with `steps`, `checkpoint`, and `stopped` if a signal stopped the run early.
  Ctrl-C and SIGTERM save after the running step, and then act as usual: Ctrl-C raises
  KeyboardInterrupt. Raises ValueError or OSError with one sentence for what cannot be trained.
  """
  if signals is None:
    with Signals() as signals:
      summary = run_training(config, workdir, hooks=hooks, base=base, signals=signals)
    signals.pass_on()
    return summary
  try:
    if not os.fspath(workdir):
      raise ValueError("workdir is empty. Name the folder for checkpoints and metrics.")
    config = _copy(load_config(config) if isinstance(config, str) else config)
    settings.check_settings(config)
    settings.check_names(config)
    settings.check_complete(config)
    if base:
      adapter_base.look_in(starting_point.checkpoint_before_joining(os.fspath(base)))
    workdir = files.absolute(workdir)
    starting_point.complete(config, workdir)
    hooks = [*_evaluation_hooks(config), *hooks]
  except (ValueError, OSError) as error:
    end_other_processes(error)
    raise
  with _only_run():
    return train(config, workdir, signals, hooks, check_infer)


@contextlib.contextmanager
def _only_run() -> Iterator[None]:
  """Refuses a second run at the same time, in another thread.

  Both would use all devices, and Orbax mixes up saves of two threads.
  """
  if not _RUN.acquire(blocking=False):
    raise ValueError(
      "Another run of this process is still going on. Wait for its end, or start this one in a "
      "process of its own."
    )
  try:
    yield
  finally:
    _RUN.release()


def _copy(config: ConfigDict | Mapping[str, Any]) -> ConfigDict:
  """A copy without references, in which ~ is the home folder.

  config: also a FrozenConfigDict, or the dict of a config.json.
  """
  if isinstance(config, ConfigDict):
    placeholders.check_all_set(config)
  copied = ConfigDict(config.to_dict() if hasattr(config, "to_dict") else as_tuples(dict(config)))
  settings.expand_home(copied)
  return copied.lock()


def _evaluation_hooks(config: ConfigDict) -> Sequence[Hook]:
  """The hooks of config.evals. Raises ValueError for an invalid evaluation."""
  if not config.get("evals") and not config.get("best"):
    return ()
  from filax.evals import during_training

  return during_training.evaluation_hooks(config)


def end_other_processes(error: Exception) -> None:
  """Tells the other processes that this one's run is refused.

  They would wait for this process otherwise.
  """
  if distributed.is_alone():
    return
  print(f"filax train: {error}", file=sys.stderr, flush=True)
  with contextlib.suppress(ConnectionError):
    distributed.start()
    ending.end_all(str(error))
