# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny FiLA-Video on a JSON of your own, from Python.

  python examples/train_on_your_json.py videos.json runs/mine --steps 4

The JSON holds conversations about videos in LLaVA's form (data_pipelines/README.md has a whole
one); paths of media are relative to its folder. The same call again resumes the run. For a real
model take a config of configs/ and set data.train, data.tokenizer and init_from in the same way.
"""

import argparse
from collections.abc import Iterator
import json
import pathlib

from data_pipelines.text import tokenizers
import filax
from filax.configs import common

ROLES = {"human": "user", "gpt": "assistant"}


def turns(manifest: pathlib.Path) -> Iterator[str]:
  """All texts of a JSON array of records."""
  for record in json.loads(manifest.read_text()):
    for turn in record["conversations"]:
      yield f"{ROLES.get(turn['from'], turn['from'])}\n{turn['value']}"


def tiny_config(manifest: pathlib.Path, tokenizer: pathlib.Path, steps: int):
  """FiLA-Video with tiny models: what `:debug` is, on other data."""
  config = common.shrink(common.base())
  config.debug_corpus = ""
  config.data.train = ((str(manifest), "all"),)
  config.data.tokenizer = str(tokenizer)
  config.steps = steps
  return config


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("manifest", type=pathlib.Path, help="a JSON array of conversations")
  parser.add_argument("workdir", type=pathlib.Path, help="where checkpoints and metrics go")
  parser.add_argument("--steps", type=int, default=4)
  options = parser.parse_args()
  options.workdir.mkdir(parents=True, exist_ok=True)
  tokenizer = options.workdir / "tokenizer.model"
  if not tokenizer.exists():  # A pretrained llm brings its own.
    tokenizers.train_sentencepiece(turns(options.manifest), tokenizer, vocab_size=400)
  config = tiny_config(options.manifest, tokenizer, options.steps)
  summary = filax.run_training(config, options.workdir)
  print(f"Step {summary['steps']}. Ask it: filax chat --checkpoint {options.workdir} --video FILE")


if __name__ == "__main__":
  main()
