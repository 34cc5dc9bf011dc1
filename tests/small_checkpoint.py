# SPDX-License-Identifier: Apache-2.0
"""Random tiny FiLA models on disk, as training leaves them: parameters, config, tokenizer."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from configs import fila_toy
from data_pipelines.text import tokenizers
from filax.checkpoint import store
from filax.models.components import build_video_lm

TEXTS = ("user\nassistant\nWhat shape is on red? What colour is on blue? circle square ring " * 3,)


def config(made=fila_toy, **changes) -> dict:
  """The toy config at debug size: 24 candidate frames, 2 scenes of 3. "a.b"=... changes a key."""
  c = made.get_config("debug")
  steps = {"infer.selector.steps": 5} if "steps" in c.infer.selector else {}
  with c.unlocked():
    c.update_from_flattened_dict({"infer.max_new_tokens": 6} | steps | changes)
  return c.to_dict()


def parameters(config, seed: int = 0):
  """Parameters drawn with a spread of 0.2, so that the model is sure of what it says."""
  model = build_video_lm(config["model"])
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example())["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def write(folder, seed: int = 0, made=fila_toy, **changes) -> str:
  """Writes a run folder and returns its path."""
  folder = pathlib.Path(folder)
  plain = config(made, **changes)
  tokenizers.train_sentencepiece(TEXTS, folder / "tokenizer.model", vocab_size=300)
  plain["data"]["tokenizer"] = "a/file/that/is/not/here.model"
  store.save_params(folder, parameters(plain, seed), plain)
  (folder / "config.json").write_text(json.dumps(plain))
  return str(folder)
