# SPDX-License-Identifier: Apache-2.0
"""A private benchmark: six invented questions about three clips, in two protocols.

questions.json is a list of {id, video, question, options, answer, task, skills, start, end}.
"""

import json
import os

from data_pipelines.sample import Scene, Turn
from filax.evals import kit
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt
from filax.evals.metrics.exact import ExactMatch
from filax.testing import clips

PUBLISHER = "Its invented publisher has it nowhere."
QUESTIONS = 6


def record(number, **changes):
  """A record about clip `number // 2`."""
  return {
    "id": f"q{number}",
    "video": f"{number // 2}.mp4",
    "question": f"What shape is on red {number}?",
    "options": ["circle", "square"],
    "answer": "AB"[number % 2],
    "task": "shape" if number < 4 else "colour",
    "skills": ["seeing"] if number % 2 else ["seeing", "counting"],
  } | changes


def write(folder, records=None, videos=3):
  """Writes questions and clips; returns the folder."""
  os.makedirs(folder, exist_ok=True)
  records = [record(number) for number in range(QUESTIONS)] if records is None else records
  with open(os.path.join(folder, "questions.json"), "w") as file:
    json.dump(records, file)
  for number in range(videos):
    clips.write_video(os.path.join(folder, f"{number}.mp4"), 20, first=50 * number)
  return str(folder)


def read_examples(source):
  path = source.find_annotation(["questions.json"], PUBLISHER)
  extra = source.find_annotation(["more.json"], PUBLISHER) if source.allow_missing else None
  assert extra is None
  with open(path) as file:
    records = json.load(file)
  for row in records:
    names = row["video"] if isinstance(row["video"], list) else [row["video"]]
    media = []
    for name in names:
      path = os.path.join(source.root or source.data, name)
      media.append((Scene(path, t0=row.get("start", 0.0), t1=row.get("end")),))
    parts = row.get("parts") or [*range(len(names)), "\n" + row["question"]]
    yield Example(
      id=row["id"],
      turn=Turn("user", tuple(parts)),
      answer=row["answer"],
      media=tuple(media),
      options=tuple(row["options"]),
      fields=row,
    )


def plain(example, shown):
  del shown
  return Prompt((kit.multiple_choice(example),))


def started(example, shown):
  return Prompt(
    (kit.multiple_choice(example),), answer_start=f"Best option at {shown.duration:g}:("
  )


def failing(example, shown):
  """Raises KeyError for every second question."""
  example.fields["missing" if example.id in ("q1", "q3") else "id"]
  return plain(example, shown)


class FailingMetric(ExactMatch):
  def score(self, text, example):
    if example.id == "q2":
      raise RuntimeError("no verdict")
    return super().score(text, example)


METRIC = ExactMatch()
PROTOCOLS = {
  "official": NamedProtocol(prompt=plain, metric=METRIC, version="1", max_new_tokens=3),
  "lmms-eval": NamedProtocol(
    prompt=started, metric=METRIC, version="2", macro=True, note="Silent.", frames="the first 4"
  ),
  "filax": NamedProtocol(prompt=plain, metric=METRIC),
  "failing": NamedProtocol(prompt=failing, metric=FailingMetric()),
}


def submission(rows):
  return {row["id"]: row["choice"] for row in rows}


def benchmark(**changes):
  settings = dict(
    read_examples=read_examples,
    protocols=PROTOCOLS,
    by=("task", "skills"),
    macro="task",
    questions=QUESTIONS,
    chance=0.5,
    publisher=PUBLISHER,
  )
  return Benchmark(**(settings | changes))


BENCHMARKS = {
  "small": benchmark(),
  "silent": benchmark(shows_text=False, submission=submission),
  "many_frames": benchmark(frames=9000),
  "taken": benchmark(by=("answer",)),
}
