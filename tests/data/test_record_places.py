# SPDX-License-Identifier: Apache-2.0
"""Every record has a place of its own, also where a whole manifest is one line."""

import json

import pytest

from data_pipelines.manifest.quarantine import add_to_quarantine
from data_pipelines.manifest.reader import located_records
from data_pipelines.manifest.report import BadRecord
from data_pipelines.packing.corpus import read_corpus
from data_pipelines.tools import check
from filax.evals.benchmarks import manifest as questions
from filax.evals.kit import Source
from filax.testing import corpora


def record(text):
  turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "Yes."}]
  return {"conversations": turns}


def write(folder, records, indent=None):
  path = folder / "one_line.json"
  path.write_text(json.dumps(records, indent=indent))
  return path


@pytest.mark.parametrize(
  "indent, places", [(None, ["1", "1#2", "1#3"]), (0, ["2", "9", "16"])], ids=["one", "many"]
)
def test_places_of_records(indent, places, tmp_path):
  path = write(tmp_path, [{"a": 1}] * 3 if indent is None else [{"a": [1, 2, 3]}] * 3, indent)
  assert [located.place for located in located_records(path)] == places


def test_a_bad_record_of_a_single_line_is_named(tmp_path):
  path = write(tmp_path, [record("a"), record("b"), {"conversations": None}, record("c")])
  result = check.check_manifests([path])
  assert str(result.report.bad[0]).startswith(f"{path}:1#3: has conversations null")
  bad = result.as_dict()["bad"][0] | dict(reason="")
  assert bad == dict(manifest=str(path), line=1, nth=3, reason="")


def test_an_origin_becomes_its_bad_record():
  bad = BadRecord.at("a:b#c.json:12#3", "is bad")
  assert bad == BadRecord("a:b#c.json", 12, "is bad", 3) and str(bad) == "a:b#c.json:12#3: is bad"


def test_one_sample_of_a_single_line_is_left_out_alone(tmp_path):
  folder = corpora.write_corpus(tmp_path)
  path = write(folder, [record("a"), record("b"), record("c")])
  config = corpora.data_config(folder, train=((str(path), "all"),))
  origin = read_corpus(config, 0, "").samples.origin(0)
  add_to_quarantine(tmp_path / "quarantine.jsonl", "", "is at fault", origin)
  mixture = read_corpus(config | dict(exclude=str(tmp_path / "quarantine.jsonl")), 0, "")
  assert mixture.excluded == 1
  assert [sample.origin for sample in mixture.samples] == [f"{path}:1#2", f"{path}:1#3"]


def test_questions_without_names_have_names_of_their_own(tmp_path):
  path = write(tmp_path, [record("a"), record("b")])
  examples = questions.read_examples(Source(data=str(path)))
  assert [example.id for example in examples] == [f"{path.name}:1", f"{path.name}:1#2"]
