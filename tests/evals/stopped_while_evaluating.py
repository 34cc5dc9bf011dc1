# SPDX-License-Identifier: Apache-2.0
"""A script of test_evaluation_of_two_processes.py: the last process is stopped while evaluating.

python stopped_while_evaluating.py FOLDER: FOLDER/<process>/ holds the corpus of a process. The
signal comes in the first evaluation of the first start. Prints the scores, and how the run ended.
"""

import json
import os
import pathlib
import signal
import sys
import time

from trained_by_processes import PrintsScores, run_config

from filax.evals import during_training
from filax.parallel import preemption
from filax.train import run, signals

ANSWER = during_training.answer_questions


def answer_after_signal(*arguments):
  if os.environ["FILAX_PROCESS_ID"] == "1":
    os.kill(os.getpid(), signal.SIGTERM)
    while not preemption.is_noticed():
      time.sleep(0.05)
  return ANSWER(*arguments)


def main(folder: pathlib.Path) -> None:
  corpus = folder / os.environ["FILAX_PROCESS_ID"]
  evals = ((str(corpus / "held_out.json"), 2, 0),)
  config = run_config(corpus, steps=6, evals=evals, best="")
  if not (folder / "run").exists():
    during_training.answer_questions = answer_after_signal
  with signals.Signals() as received:
    hooks = during_training.evaluation_hooks(config)
    summary = run.train(config, str(folder / "run"), received, (*hooks, PrintsScores()))
  print(json.dumps({"stopped": summary["stopped"], "steps": summary["steps"]}), flush=True)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
