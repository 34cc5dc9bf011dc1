# SPDX-License-Identifier: Apache-2.0
"""What the compared runs have in common: config, batches, first parameters, their export."""

from collections.abc import Mapping
import dataclasses
import importlib
import json
import pathlib
import shutil
from typing import Any

import jax
from ml_collections import ConfigDict

from data_pipelines.loader import Pipeline
from data_pipelines.synthesis import toy
from data_pipelines.text import tokenizers
from filax.checkpoint import store
from filax.convert import export_folder
from filax.train import run, setup
from filax.train.state import TrainState

TOYS = {"fila": "fila_toy", "flash": "vcf_toy"}  # Model -> its config of configs/.
FORMATS = {"fila": "hf-remote", "flash": "videochat-flash"}  # Model -> format of the export.


@dataclasses.dataclass(frozen=True)
class RunRecipe:
  """A training run before its first step."""

  model: str  # A key of TOYS.
  config: dict[str, Any]
  pipeline: Pipeline
  setup: setup.Setup
  first: TrainState
  export: pathlib.Path  # The first parameters, for PyTorch.


def prepare_recipe(
  model: str, folder: pathlib.Path, steps: int, seed: int = 0, rows: int = 0, videos: int = 300
) -> RunRecipe:
  """Opens a toy's first stage, and exports its first parameters.

  The first stage trains all parts on packed rows. Its schedule is stretched over `steps`. rows:
  packed rows of a step, 0 = as the config says. The corpus is made in `folder` unless it is there.
  """
  corpus = toy.corpus(folder / f"corpus-{seed}", videos=videos, held=1, seed=seed)
  config = stage_config(model, corpus, steps, seed)
  config.batch = rows or config.batch
  run_folder = folder / f"{model}-{seed}"
  run_folder.mkdir(exist_ok=True)
  pipeline = run.open_data(config, str(run_folder))
  plain = config.to_dict()
  prepared = setup.prepare(plain, steps, jax.devices()[:1])
  first = setup.complete_state(seed, prepared, {})
  export = export_parameters(model, first.params, plain, run_folder / "first")
  return RunRecipe(model, plain, pipeline, prepared, first, export)


def stage_config(model: str, corpus: pathlib.Path, steps: int, seed: int) -> ConfigDict:
  """The config of a toy's first stage."""
  module = importlib.import_module(f"configs.{TOYS[model]}")
  config = module.get_config(f"stage=1,corpus={corpus}")
  config.steps = steps
  config.seed = seed
  return config


def export_parameters(
  model: str, params: Any, config: Mapping[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Writes a checkpoint and exports it in float32.

  Returns the export's folder, which lies in that of the checkpoint.
  """
  shutil.rmtree(folder, ignore_errors=True)
  store.save_params(folder, params, config)
  (folder / "config.json").write_text(json.dumps(config))
  tokenizer = tokenizers.load_tokenizer(config["data"]["tokenizer"])
  export = folder / "torch"
  request = export_folder.ExportRequest(
    folder, export, FORMATS[model], dtype="float32", tokenizer=tokenizer
  )
  export_folder.export_checkpoint(request)
  return export
