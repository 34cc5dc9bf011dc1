# SPDX-License-Identifier: Apache-2.0
"""The work for a question does not grow with the number of questions."""

import time

import pytest

from data_pipelines.media import remote
from data_pipelines.media.remote import RemoteObject
from data_pipelines.sample import Scene, Turn
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


def about(media):
  """Questions about one video each."""
  turn = Turn("user", (0, "Why?"))
  return [Example(name, turn, "A", ((Scene(name),),)) for name in media]


def test_media_inside_a_file_are_there_with_it(tmp_path):
  (tmp_path / "x.tar").touch()
  names = ["x.tar#a.mp4", "y.tar#a.mp4", "y.parquet#0/video", "y.array_record#a"]
  media = [str(tmp_path / name) for name in names]
  assert questions.missing_media(about(media)) == media[1:3]


@pytest.fixture
def bucket(monkeypatch):
  """A bucket of 30 videos; the addresses that were asked for one by one."""
  asked = []
  names = [f"gs://data/videos/{number}.mp4" for number in range(30)]
  listing = {name: RemoteObject(name, 1, 1) for name in names}
  monkeypatch.setattr(remote, "_listing", lambda folder: listing)
  monkeypatch.setattr(remote, "_ask", asked.append)
  monkeypatch.setattr(remote, "_asked", {})
  return names, asked


def test_the_folder_of_a_bucket_is_asked_as_a_whole(bucket):
  names, asked = bucket
  missing = [f"gs://data/videos/missing-{number}.mp4" for number in range(20)]
  assert questions.missing_media(about([*names, *missing])) == missing
  assert not asked
