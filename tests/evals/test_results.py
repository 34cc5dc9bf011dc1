# SPDX-License-Identifier: Apache-2.0
"""Folders of evaluations, sound and damaged."""

import json

import pytest

from filax.evals.results import BadResults, find_results, read_results, run_names
from filax.evals.results_folder import read_answers
from filax.testing.evaluation_results import answer_row, answer_rows, write_results


def damaged(tmp_path, **fields):
  """A folder whose result.json has other fields; None removes one."""
  folder = write_results(tmp_path / "run", answer_rows(6))
  result = json.loads((folder / "result.json").read_text())
  for name, value in fields.items():
    if value is None:
      del result[name]
    else:
      result[name] = value
  (folder / "result.json").write_text(json.dumps(result))
  return folder


def refusal(path):
  """The sentence that a folder is refused with."""
  with pytest.raises(BadResults) as caught:
    read_results(path)
  return str(caught.value)


def test_a_folder_gives_result_and_answers(tmp_path):
  rows = answer_rows(7)
  results = read_results(write_results(tmp_path, rows))
  assert results.benchmark == "cups"
  assert results.answers == rows
  assert results.notes == []


def test_the_path_of_result_json_is_as_good(tmp_path):
  folder = write_results(tmp_path, answer_rows(3))
  assert read_results(folder / "result.json").folder == folder


def test_the_headline_is_the_score_of_the_metric(tmp_path):
  folder = write_results(tmp_path, answer_rows(3), metric="micro", scores={"micro": 0.25, "x": 1})
  assert read_results(folder).headline == 0.25


def test_optional_fields_have_defaults(tmp_path):
  folder = damaged(tmp_path, note=None, reasons=None, settings=None, finished=None)
  result = read_results(folder).result
  assert (result["note"], result["reasons"], result["settings"]) == ("", [], {})
  assert not result["finished"]


def test_a_missing_folder_is_named(tmp_path):
  assert f"There is no {tmp_path / 'none'}" in refusal(tmp_path / "none")


def test_an_empty_folder_is_named(tmp_path):
  assert "holds no result.json" in refusal(tmp_path)


def test_another_file_is_refused(tmp_path):
  (tmp_path / "notes.txt").write_text("x")
  assert "is not a result.json" in refusal(tmp_path / "notes.txt")


def test_the_folder_of_several_benchmarks_names_them(tmp_path):
  write_results(tmp_path / "mvbench", answer_rows(3))
  write_results(tmp_path / "videomme", answer_rows(3))
  sentence = refusal(tmp_path)
  assert "2 below it do" in sentence and str(tmp_path / "mvbench") in sentence


def test_another_schema_is_refused_with_its_version(tmp_path):
  sentence = refusal(damaged(tmp_path, schema=2, filax="9.0"))
  assert "schema 2, written by FiLax 9.0; this FiLax reads schema 1" in sentence


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("{", "is not JSON"),
    ("", "is not JSON"),
    ("[1]", "has no field 'schema'"),
    ('{"accuracy": 0.5}', "has no field 'schema'"),
    ('{"schema": 1}', "lacks benchmark, metric, scores"),
    ("[" * 100_000, "is not JSON"),
    ("\x00\x01", "is not JSON"),
  ],
)
def test_another_document_is_refused(tmp_path, content, words):
  (tmp_path / "result.json").write_text(content)
  assert words in refusal(tmp_path)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    (dict(shows_text="no"), "shows_text is 'no', not true or false"),
    (dict(total="many"), "total is 'many', not a whole number"),
    (dict(questions=True), "questions is True, not a whole number"),
    (dict(scores=[0.5]), "scores is [0.5], not an object"),
    (dict(scores={"accuracy": "0.5"}), "scores.accuracy is '0.5', not a finite number"),
    (dict(scores={"accuracy": float("nan")}), "scores.accuracy is nan, not a finite number"),
    (dict(by={"task": [1]}), "by.task is [1], not an object"),
    (dict(by={"task": {"a": {}}}), "by.task.a lacks accuracy or questions"),
    (dict(reasons="none"), "reasons is 'none', not a list"),
    (dict(seconds={"encode": "long"}), "seconds.encode is 'long', not a finite number"),
  ],
)
def test_a_field_of_another_kind_is_named(tmp_path, fields, words):
  assert words in refusal(damaged(tmp_path, **fields))


def test_a_torn_last_line_is_left_out_and_noted(tmp_path):
  folder = write_results(tmp_path, answer_rows(3))
  with open(folder / "answers.jsonl", "a") as file:
    file.write('{"id": "q3", "answ')
  results = read_results(folder)
  assert len(results.answers) == 3
  assert "answers.jsonl:4 is the torn line" in results.notes[0]


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ("{", "answers.jsonl:2 is not JSON"),
    ("7", "answers.jsonl:2 is 7, not an answer"),
    ('{"id": "a"}', "answers.jsonl:2 lacks answer, score, parsed"),
    ('{"id": "a", "answer": "", "score": "1", "parsed": true}', "score is '1'"),
    ('{"id": "a", "answer": "", "score": NaN, "parsed": true}', "score is nan"),
  ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, words):
  folder = write_results(tmp_path, answer_rows(1))
  with open(folder / "answers.jsonl", "a") as file:
    file.write(line + "\n" + json.dumps(answer_row(1)) + "\n")
  assert words in refusal(folder)


def test_a_repeated_id_is_noted(tmp_path):
  results = read_results(write_results(tmp_path, [answer_row(1), answer_row(1)]))
  assert "1 lines repeat the id" in results.notes[0]


def test_missing_answers_are_noted(tmp_path):
  folder = write_results(tmp_path, answer_rows(3))
  (folder / "answers.jsonl").unlink()
  results = read_results(folder)
  assert results.answers == [] and "is missing" in results.notes[0]


def test_an_answer_without_a_score_is_read(tmp_path):
  results = read_results(write_results(tmp_path, [answer_row(1, score=None)]))
  assert len(results.answers) == 1 and results.scored == []


def test_a_needle_question_is_known_by_its_cell(tmp_path):
  rows = [answer_row(0, frames=frames, depth=0.5, control="") for frames in (1000, 2000)]
  rows.append(answer_row(0, frames=1000, depth=0.5, control="grey"))
  results = read_results(write_results(tmp_path, rows))
  assert [row["id"] for row in results.scored] == [
    "q0 frames=1000 depth=0.5",
    "q0 frames=2000 depth=0.5",
  ]
  assert results.notes == []


def test_results_are_found_below_a_folder(tmp_path):
  folders = [write_results(tmp_path / name, answer_rows(3)) for name in ("b/x", "a")]
  assert find_results(tmp_path) == sorted(folders)


@pytest.mark.parametrize(
  ("folders", "names"),
  [
    (["/r/a", "/r/b"], ["a", "b"]),
    (["/r/a/mvbench", "/r/b/mvbench"], ["a/mvbench", "b/mvbench"]),
    (["/r/a"], ["a"]),
    (["/r/a", "/r/a"], ["a", "a"]),
  ],
)
def test_names_are_the_ends_that_differ(folders, names):
  assert run_names(folders) == names


def test_the_rows_share_their_keys(tmp_path):
  folder = write_results(tmp_path, answer_rows(2))
  in_run, _ = read_answers(folder / "answers.jsonl")
  for first, second in (read_results(folder).answers, in_run):
    assert list(map(id, first)) == list(map(id, second))
