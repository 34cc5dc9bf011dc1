# SPDX-License-Identifier: Apache-2.0
"""Records with values of any kind are listed one by one; the others are read."""

import json

import benchmark_reading as reading
from hypothesis import given, strategies
import pytest

from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files_more as files

SCALARS = (
  strategies.none()
  | strategies.booleans()
  | strategies.integers()
  | strategies.floats()
  | strategies.text(max_size=4)
)
VALUES = strategies.recursive(
  SCALARS,
  lambda inner: (
    strategies.lists(inner, max_size=3)
    | strategies.dictionaries(strategies.text(max_size=4), inner, max_size=3)
  ),
  max_leaves=6,
)


def write_egoschema(folder, row):
  files.write_json(folder / "questions.json", [files.egoschema_record(0), row])


def write_perceptiontest(folder, row):
  good = dict(id=0, question="Who?", options=["a", "b", "c"], answer_id=1)
  videos = dict(video_1=dict(mc_question=[good, row]))
  files.write_json(folder / "mc_question_valid.json", videos)


def write_lvbench(folder, row):
  good = dict(uid="0", question="Who?", answer="A", question_type=["reasoning"])
  video = dict(key="a", type="tv", qa=[good, row])
  files.write_text(folder / "video_info.meta.jsonl", json.dumps(video))


def write_lvbench_of_vcf(folder, row):
  files.write_json(folder / "lvbench_clean.json", [files.lvbench_row("1"), row])


def write_charades(folder, row):
  good = dict(video="A.mp4", caption="person sits.", timestamp=[0, 1])
  files.write_json(folder / "temporal_grounding_charades.json", [good, row])


def write_tempcompass(folder, row):
  files.write_tempcompass(folder)
  good = dict(question="Is it?", answer="no")
  files.write_json(folder / "questions/yes_no.json", dict(v=dict(order=[good, row])))


@pytest.mark.parametrize(
  "name, write, fields",
  [
    ("egoschema_full", write_egoschema, ("q_uid", "question", "option 4")),
    ("perceptiontest", write_perceptiontest, ("id", "question", "options", "answer_id")),
    ("lvbench", write_lvbench, ("uid", "question", "answer", "options")),
    ("lvbench", write_lvbench_of_vcf, ("video", "question", "candidates", "answer")),
    ("charades_sta", write_charades, ("video", "caption", "timestamp")),
    ("tempcompass", write_tempcompass, ("question", "answer")),
  ],
)
@given(data=strategies.data())
def test_any_value_is_read_or_listed(tmp_path_factory, name, write, fields, data):
  folder = tmp_path_factory.mktemp("odd")
  row = {field: data.draw(VALUES, label=field) for field in fields}
  write(folder, row)
  examples, source = reading.examples_and_source(name, folder)
  benchmark = find_benchmark(name)
  total = 2 + 3 * (name == "tempcompass")
  assert len(examples) + len(source.report.bad) == total
  for example in examples:
    for protocol in benchmark.protocols:
      reading.user_text(name, protocol, example)
      reading.score_of(name, protocol, example, "A")
