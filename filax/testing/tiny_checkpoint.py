# SPDX-License-Identifier: Apache-2.0
"""Random tiny models on disk, as training leaves them: parameters, config, tokenizer."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from data_pipelines.text import tokenizers
from filax.checkpoint import store
from filax.configs import fila_toy
from filax.models.components import build_video_lm
from filax.testing.random_parameters import random_parameters

TEXTS = ("user\nassistant\nWhat shape is on red? What colour is on blue? circle square ring " * 3,)


def tiny_config(config_file: Any = None, **changes: Any) -> dict[str, Any]:
  """A config at debug size as plain dicts.

  fila_toy then has 24 candidate frames and 2 scenes of 3 frames.

  config_file: a module with get_config, default configs/fila_toy.py. changes: "a.b"=value.
  """
  if config_file is None:
    config_file = fila_toy
  c = config_file.get_config("debug")
  defaults = {"infer.max_new_tokens": 6}
  if "steps" in c.infer.selector:
    defaults["infer.selector.steps"] = 5
  with c.unlocked():
    c.update_from_flattened_dict(defaults | changes)
  return c.to_dict()


def tiny_parameters(config: Mapping[str, Any], seed: int = 0) -> Any:
  """Drawn parameters of the model of a config."""
  return random_parameters(build_video_lm(config["model"]), seed)


def write_checkpoint(
  folder: str | os.PathLike,
  seed: int = 0,
  config_file: Any = None,
  texts: Sequence[str] = TEXTS,
  vocabulary: int = 300,
  **changes: Any,
) -> str:
  """Writes a run folder with a checkpoint of step 0.

  Its tokenizer of `vocabulary` pieces is trained on `texts`. Returns the folder's path.
  """
  folder = pathlib.Path(folder)
  config = tiny_config(config_file, **changes)
  tokenizers.train_sentencepiece(texts, folder / "tokenizer.model", vocab_size=vocabulary)
  config["data"]["tokenizer"] = "a/file/that/is/not/here.model"
  store.save_params(folder, tiny_parameters(config, seed), config)
  (folder / "config.json").write_text(json.dumps(config))
  return str(folder)
