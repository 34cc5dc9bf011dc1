# SPDX-License-Identifier: Apache-2.0
"""A script of test_evaluation_of_two_processes.py: trains and evaluates as one of several.

python trained_by_processes.py FOLDER VANISHING...: FOLDER/<process>/ holds the corpus of a process.
The last process removes its files VANISHING after the first step. Prints the scores, and whether a
resumed run would evaluate again where the last process sees more results than there are.
"""

import dataclasses
import json
import os
import pathlib
import sys

from etils import epath
import jax

from filax.configs import fila_toy
from filax.evals import during_training
from filax.train import hooks, run, signals


class Removes(hooks.Hook):
  """Removes files of the last process."""

  def __init__(self, paths):
    self._paths = paths

  def step(self, number, metrics):
    if number == 1 and jax.process_index() == jax.process_count() - 1:
      for path in self._paths:
        path.unlink()


class PrintsScores(hooks.Hook):
  def record_scores(self, number, scores):
    print(json.dumps(scores), flush=True)


def run_config(corpus: pathlib.Path, **changes):
  """A run of two steps, which is evaluated at its end."""
  config = fila_toy.get_config("stage=2,debug")
  config.update_from_flattened_dict(
    {
      "data.train": ((str(corpus / "manifest.json"), "all"),),
      "data.tokenizer": str(corpus / "tokenizer.model"),
      "data.cache": "",
      "infer.max_new_tokens": 4,
      "infer.selector.steps": 5,
      "debug_corpus": "",
      "checkpoint_every": 100,
      "steps": 2,
      "evals": ((str(corpus / "held_out.json"), 2, 0), (str(corpus / "gone.json"), 2, 1)),
      "evals_batch": 2,
      "best": "-eval/held_out/loss",
    }
    | changes
  )
  return config


def main(folder: pathlib.Path, vanishing) -> None:
  corpus = folder / os.environ["FILAX_PROCESS_ID"]
  config = run_config(corpus)
  removes = Removes([corpus / name for name in vanishing])
  with signals.Signals() as received:
    (evaluations,) = during_training.evaluation_hooks(config)
    run.train(config, str(folder / "run"), received, (removes, evaluations, PrintsScores()))
  evaluations._run = dataclasses.replace(evaluations._run, first=2)
  if jax.process_index():
    evaluations._folder = epath.Path(folder / "seen")
    for name in ("held_out", "gone"):
      during_training.write_result(evaluations._folder / "2" / name, {"answers": []})
  print(json.dumps({"lacks": evaluations.lacks_scores(2)}), flush=True)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]), sys.argv[2:])
