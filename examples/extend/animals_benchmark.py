# SPDX-License-Identifier: Apache-2.0
"""A benchmark: DIR/questions.json and DIR/videos, four options for each question."""

import json
import os

from data_pipelines.sample import Scene, Turn
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, multiple_choice
from filax.evals.metrics.exact import ExactMatch


def read_examples(source):
  """The questions of the file."""
  path = source.find_annotation(["questions.json"], "Ask my lab for it.")
  with open(path) as file:
    rows = json.load(file)
  for row in rows:
    video = os.path.join(source.root or source.data, "videos", row["video"])
    yield Example(
      id=row["id"],
      turn=Turn("user", (0, "\n" + row["question"])),  # 0 is the place of the first medium.
      answer=row["answer"],
      media=((Scene(video),),),
      options=tuple(row["options"]),
      fields=row,
    )


def lettered_prompt(example, shown):
  """The question with its options.

  shown: the duration and the times of the frames.
  """
  del shown
  return Prompt((multiple_choice(example),), answer_start="Best option: (")


OFFICIAL = NamedProtocol(
  prompt=lettered_prompt, metric=ExactMatch(), version="my lab, 1.0", max_new_tokens=16
)
BENCHMARKS = {
  "animals": Benchmark(read_examples, {"official": OFFICIAL}, by=("kind",), chance=0.25),
}
