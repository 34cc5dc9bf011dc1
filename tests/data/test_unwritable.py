# SPDX-License-Identifier: Apache-2.0
"""Conversations that a chat template cannot write are named, counted and left out."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates, tokenizers
from data_pipelines.tools import view
from filax.spec import dropout_stages
from filax.testing import corpora, manifests

ALTERNATE = """{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}"""


def conversation(*texts, role="gpt"):
  turns = [{"from": "human", "value": text} for text in texts]
  return dict(conversations=[*turns, {"from": role, "value": "Yes."}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two conversations that the template writes, around one with two questions in a row."""
  folder = tmp_path_factory.mktemp("chat")
  records = [conversation("Is it?"), conversation("Is it?", "Really?"), conversation("And now?")]
  manifests.write_manifest(folder / "manifest.json", records)
  corpora.data_config(folder)
  (folder / "chat_template.jinja").write_text(ALTERNATE)
  return folder


def open_plan(folder, **options):
  return corpora.open_pipeline(folder, template="chat", system="", **options).plan


@pytest.mark.parametrize("dropout", [False, True])
def test_one_is_left_out_and_named(folder, dropout, tmp_path):
  layout = corpora.LAYOUT
  if dropout:
    layout = dataclasses.replace(layout, stages=dropout_stages.parse_stages("1:uniform:0.5", 4))
  quarantine = tmp_path / "quarantine.jsonl"
  for _ in range(2):  # The second time, the lengths come from the cache.
    plan = open_plan(folder, layout=layout, quarantine=quarantine)
    used = {sample for number in range(plan.row_count(0)) for sample in plan.row(number).samples}
    assert used == {0, 2}
    assert plan.report["unwritable"] == 1 and plan.report["too_long"] == []
    (record,) = plan.report["unwritable_records"]
    origin = plan.samples[1].origin
    assert record.startswith(f"{origin}: ") and "roles must alternate" in record
    (line,) = quarantine.read_text().splitlines()
    entry = json.loads(line)
    assert entry["media"] == "" and entry["origin"] == origin
    assert "roles must alternate" in entry["error"]
  assert plan.report["mean_tokens"] == plan.planner.demand(0).tokens[[0, 2]].mean()


def test_the_page_of_the_data_names_it(folder):
  shown = view.view_plan(open_plan(folder), samples=3, rows=1)
  (reason,) = shown.left_out
  assert reason.count == 1 and "roles must alternate" in reason.examples[0]
  assert ["roles must alternate" in sample.problem for sample in shown.samples] == [0, 1, 0]


def test_if_none_can_be_written_the_template_is_at_fault(folder, tmp_path):
  manifests.write_manifest(tmp_path / "manifest.json", [conversation("Is it?", "Really?")] * 2)
  tokenizer = str(folder / "tokenizer.json")
  with pytest.raises(ValueError, match=r"none of the 2 .*roles must alternate.*data\.template"):
    open_plan(tmp_path, tokenizer=tokenizer)


def test_the_others_are_counted_as_before(folder):
  tokenizer = tokenizers.load_tokenizer(folder)
  good = Sample("x", (Turn("user", ("Hi",)), Turn("assistant", ("Yes",))))
  bad = Sample("x", (good.turns[0], *good.turns))
  counts = templates.count_tokens([(bad, ()), (good, ()), (bad, ())], tokenizer, template="chat")
  length = len(templates.encode_conversation(good, tokenizer, template="chat").tokens)
  np.testing.assert_array_equal(counts, [templates.UNWRITABLE, length, templates.UNWRITABLE])
