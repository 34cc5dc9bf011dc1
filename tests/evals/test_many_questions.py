# SPDX-License-Identifier: Apache-2.0
"""The work for a question does not grow with the number of questions."""

import time

from data_pipelines.sample import Turn
from filax.evals import questions
from filax.evals.kit import Benchmark, Example, Source
from filax.evals.progress_line import EvaluationProgress


class CountedId(str):
  """An id that counts the names that are made of it."""

  names = 0

  def __format__(self, form):
    CountedId.names += 1
    return super().__format__(form)


def test_many_questions_may_have_the_same_id():
  turn = Turn("user", ("Why?",))
  examples = [Example(CountedId("q"), turn, "A", ()) for _ in range(300)]
  examples.append(Example("q#7", turn, "A", ()))
  benchmark = Benchmark(read_examples=lambda source: examples, protocols={})
  unique = questions.read_questions(benchmark, Source("", "", False), None)
  ids = [example.id for example in unique]
  assert ids == ["q", *(f"q#{number}" for number in range(2, 301)), "q#7#2"]
  assert CountedId.names == 299


def test_all_answers_are_averaged_only_for_a_line():
  averaged = []
  progress = EvaluationProgress(9, time.perf_counter())
  for done in range(9):
    progress.count_answers(done, 0, lambda: averaged.append("shown"), last=False)
  assert not averaged
  progress.count_answers(9, 0, lambda: averaged.append("shown"), last=True)
  assert averaged == ["shown"]
