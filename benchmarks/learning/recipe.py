# SPDX-License-Identifier: Apache-2.0
"""What all compared runs share: config, batches, and first parameters with their export."""

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

TOYS = {"fila": "fila_toy", "flash": "vcf_toy"}  # Model -> name of its file in configs/.
FORMATS = {"fila": "hf-remote", "flash": "videochat-flash"}  # Model -> format of its export.


@dataclasses.dataclass(frozen=True)
class RunRecipe:
  """A training run before its first step."""

  model: str  # A key of TOYS.
  config: dict[str, Any]
  pipeline: Pipeline
  setup: setup.Setup
  first: TrainState  # The state before the first step.
  export: pathlib.Path  # Folder with the first parameters, exported for PyTorch.


def prepare_recipe(
  model: str, folder: pathlib.Path, steps: int, seed: int = 0, rows: int = 0, videos: int = 300
) -> RunRecipe:
  """Prepares a toy's first stage, and exports its first parameters.

  The first stage trains all parts of the model on packed rows. The learning-rate schedule covers
  `steps` steps. rows: packed rows per step; 0 = as in the config. The corpus is generated in
  `folder` if it is not there yet.
  """
  corpus = toy.corpus(folder / f"corpus-{seed}", videos=videos, held=1, seed=seed)
  config = stage_config(model, corpus, steps, seed)
  config.batch = rows or config.batch
  run_folder = folder / f"{model}-{seed}"
  run_folder.mkdir(exist_ok=True)
  pipeline = run.open_data(config, str(run_folder))
  settings = config.to_dict()
  one_device = jax.devices()[:1]
  prepared = setup.prepare(settings, steps, one_device)
  first = setup.complete_state(seed, prepared, {})
  export = export_parameters(model, first.params, settings, run_folder / "first")
  return RunRecipe(model, settings, pipeline, prepared, first, export)


def stage_config(model: str, corpus: pathlib.Path, steps: int, seed: int) -> ConfigDict:
  """The config of a toy's first stage."""
  module = importlib.import_module(f"filax.configs.{TOYS[model]}")
  config = module.get_config(f"stage=1,corpus={corpus}")
  config.steps = steps
  config.seed = seed
  return config


def export_parameters(
  model: str, params: Any, config: Mapping[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Writes parameters as a checkpoint in `folder`, and exports it in float32.

  Returns the folder of the export, which lies inside `folder`.
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
