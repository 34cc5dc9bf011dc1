# SPDX-License-Identifier: Apache-2.0
"""Evaluations that are killed, shared, refused and continued."""

import dataclasses
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import small_benchmark as small

import filax
from filax.checkpoint import base
from filax.cli.main import main
from filax.evals import evaluation
from filax.evals.kit import Score
from filax.evals.metrics.judge import JudgedAnswer
from filax.evals.results_folder import ResultsFolder, read_answers
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

FILE = str(pathlib.Path(small.__file__))
SMALL = f"{FILE}:small"
PROTOCOL = "official"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def session(run):
  return filax.load(run)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return small.write(tmp_path_factory.mktemp("data"))


def ask(session, data, out, name=SMALL, **options):
  settings = dict(protocol=PROTOCOL, progress=False, batch=2, data=data, out=out) | options
  return filax.evaluate(session, name, **settings)


@pytest.fixture(scope="module")
def expected(session, data, tmp_path_factory):
  """The rows of a run that nothing disturbed."""
  return rows(ask(session, data, tmp_path_factory.mktemp("undisturbed")))


def rows(report):
  return sorted(report["answers"], key=lambda row: row["id"])


def kept(out):
  """The rows on disk."""
  found, damaged = read_answers(out / "answers.jsonl")
  assert not damaged
  return sorted(found, key=lambda row: row["id"])


KILLED = """
import os, signal, sys
import filax
from filax.evals import results_folder
original = results_folder.ResultsFolder.append
batches = []
def append(self, rows):
  original(self, rows)
  batches.append(rows)
  if len(batches) == 2:
    if sys.argv[4] == "torn":
      self._file.write(b'{"id": "q4", "ans')
      self._file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
results_folder.ResultsFolder.append = append
checkpoint, data, out, _, name = sys.argv[1:]
filax.evaluate(filax.load(checkpoint), name, protocol="official", progress=False, batch=2,
  data=data, out=out)
"""


@pytest.mark.parametrize("end", ["whole", "torn"])
def test_a_killed_run_goes_on_from_its_answers(session, run, data, expected, tmp_path, end):
  words = [sys.executable, "-c", KILLED, run, data, str(tmp_path), end, SMALL]
  done = subprocess.run(words, check=False, env=os.environ | dict(JAX_PLATFORMS="cpu"))
  assert done.returncode == -signal.SIGKILL
  before, damaged = read_answers(tmp_path / "answers.jsonl")
  assert len(before) == 4 and damaged == (end == "torn")
  report = ask(session, data, tmp_path)
  assert rows(report) == kept(tmp_path) == expected
  assert report["finished"] and report["comparable"]
  assert kept(tmp_path)[:4] == sorted(before, key=lambda row: row["id"])
  assert sorted(path.name for path in tmp_path.iterdir() if path.name != "page.html") == [
    "answers.jsonl",
    "result.json",
    "settings.json",
  ]


def test_a_finished_run_is_not_asked_again(session, data, tmp_path, monkeypatch):
  first = ask(session, data, tmp_path)
  monkeypatch.setattr("filax.evals.run.Asking", None)
  assert ask(session, data, tmp_path) == first


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (dict(protocol="filax"), "protocol was official and is filax"),
    (dict(selector="uniform"), "selector"),
    (dict(frames=12), "sampling frames was 24 and is 12"),
    (dict(blind=True), "blind was false and is true"),
    (dict(limit=3), "limit was null and is 3"),
    (dict(max_new_tokens=2), "max_new_tokens was 3 and is 2"),
  ],
)
def test_other_settings_are_refused(session, data, tmp_path_factory, change, sentence):
  out = tmp_path_factory.mktemp("settings")
  ask(session, data, out, limit=None)
  with pytest.raises(ValueError, match=f"holds answers with other settings: .*{sentence}"):
    ask(session, data, out, **change)


def test_another_batch_is_no_other_setting(session, data, expected, tmp_path):
  ask(session, data, tmp_path, batch=4)
  assert rows(ask(session, data, tmp_path, batch=3)) == expected


def test_other_checkpoints_and_annotations_are_refused(session, data, tmp_path):
  ask(session, data, tmp_path / "out")
  other = filax.load(tiny_checkpoint.write_checkpoint(tmp_path / "other", seed=1))
  with pytest.raises(ValueError, match="settings: checkpoint was "):
    ask(other, data, tmp_path / "out")
  changed = small.write(tmp_path / "data", [small.record(0)])
  with pytest.raises(ValueError, match=r"settings: annotations .* was"):
    ask(session, changed, tmp_path / "out")
  with pytest.raises(ValueError, match=r"dropout was off and is 1:uniform:0\.5"):
    ask(session.adjusted(dropout="1:uniform:0.5"), data, tmp_path / "out")


def test_the_checkpoint_of_a_bucket_is_known(monkeypatch):
  monkeypatch.setattr(base, "checkpoint_hash", lambda step: f"of {step}")
  step = "gs://runs/a/checkpoints/900"
  assert evaluation.step_hash(step) == f"of {step}"


def test_a_larger_limit_continues(session, data, expected, tmp_path):
  first = ask(session, data, tmp_path, limit=2)
  assert first["finished"] and len(first["answers"]) == 2
  report = ask(session, data, tmp_path, limit=4)
  assert report["answers"][:2] == first["answers"] and report["limit"] == 4
  assert rows(ask(session, data, tmp_path)) == kept(tmp_path) == expected
  with pytest.raises(ValueError, match="limit was null and is 4"):
    ask(session, data, tmp_path, limit=4)


def test_the_same_files_in_another_folder_continue(session, data, expected, tmp_path):
  copied = shutil.copytree(data, tmp_path / "copied")
  ask(session, data, tmp_path / "out", process=(0, 2))
  report = ask(session, copied, tmp_path / "out", process=(1, 2))
  assert report["finished"] and len(report["answers"]) == len(expected)


def test_changed_code_of_a_private_benchmark_is_refused(session, data, tmp_path):
  file = pathlib.Path(shutil.copy(FILE, tmp_path / "mine.py"))
  ask(session, data, tmp_path / "out", name=f"{file}:small")
  file.write_text(file.read_text().replace("Best option", "Answer"))
  with pytest.raises(ValueError, match=r"settings: benchmark_code was .* and is "):
    ask(session, data, tmp_path / "out", name=f"{file}:small")


def test_the_same_command_asks_an_unreachable_judge_again(session, data, tmp_path, monkeypatch):
  class Judge(JudgedAnswer):
    def score(self, text, example):
      return Score(0.0, pending=True) if is_down else Score(1.0, "yes")

  judged = {"official": dataclasses.replace(small.PROTOCOLS[PROTOCOL], metric=Judge())}
  benchmark = small.benchmark(protocols=judged)
  monkeypatch.setattr("filax.evals.evaluation.find_benchmark", lambda name: benchmark)
  is_down = True
  assert ask(session, data, tmp_path)["scores"]["judged"] == 0.0
  assert ask(session, data, tmp_path)["scores"]["judged"] == 0.0
  is_down = False
  monkeypatch.setattr("filax.evals.answering.generate", None)  # Answers are not generated anew.
  report = ask(session, data, tmp_path)
  assert report["finished"] and report["scores"]["judged"] == report["accuracy"] == 1.0
  assert rows(report) == kept(tmp_path) and "pending" not in report["answers"][0]


def test_answers_without_a_judge_have_an_exit_code(run, tmp_path, monkeypatch, capsys):
  monkeypatch.delenv("FILAX_JUDGE_URL", raising=False)
  clips.write_video(tmp_path / "a.mp4")
  path = tmp_path / "questions.json"
  path.write_text(json.dumps([dict(video="a.mp4", question="What?", answer=["a ring", "a disc"])]))
  words = ["evals", "--checkpoint", run, "--manifest", str(path), "--protocol", "judge", "--json"]
  assert main([*words, "--out", str(tmp_path / "shared"), "--process", "0/2"]) == 0
  capsys.readouterr()
  assert main([*words, "--out", str(tmp_path / "alone")]) == 1
  printed, err = capsys.readouterr()
  result = json.loads(printed)
  assert (result["pending"], result["unparsed"], result["accuracy"]) == (1, 0, None)
  assert err.index("FILAX_JUDGE_URL") < err.index("questions 1/1")


def test_a_result_of_an_older_version_is_returned(session, data, tmp_path):
  report = ask(session, data, tmp_path)
  path = tmp_path / "result.json"
  older = json.loads(path.read_text())
  del older["pending"]
  path.write_text(json.dumps(older))
  again = ask(session, data, tmp_path)
  assert again["pending"] == 0 and again["seconds"] == report["seconds"]


def test_scores_before_a_stop_are_kept(session, data, tmp_path, monkeypatch):
  class Judge(JudgedAnswer):
    def answers_at_once(self):
      return 1

    def score(self, text, example):
      judged.append(example.id)
      if len(judged) == 3:
        raise KeyboardInterrupt
      return Score(1.0, "yes")

  judged = []
  protocols = {"official": dataclasses.replace(small.PROTOCOLS[PROTOCOL], metric=Judge())}
  benchmark = small.benchmark(protocols=protocols)
  monkeypatch.setattr("filax.evals.evaluation.find_benchmark", lambda name: benchmark)
  with pytest.raises(KeyboardInterrupt):
    ask(session, data, tmp_path)
  assert not json.loads((tmp_path / "result.json").read_text())["finished"]
  order = [row["id"] for row in read_answers(tmp_path / "answers.jsonl")[0]]
  report = ask(session, data, tmp_path)
  assert len(judged) == len(order) + 1 and len(set(judged)) == len(order)
  assert report["finished"] and report["accuracy"] == 1.0 and report["pending"] == 0
  assert [row["id"] for row in read_answers(tmp_path / "answers.jsonl")[0]] == order


def test_shares_are_merged_by_the_last_one(session, data, expected, tmp_path):
  first = ask(session, data, tmp_path, process=(0, 2))
  assert not first["finished"] and not (tmp_path / "result.json").exists()
  assert len(first["answers"]) == 4 and (tmp_path / "answers.0-of-2.jsonl").exists()
  report = ask(session, data, tmp_path, process=(1, 2))
  assert rows(report) == kept(tmp_path) == expected and report["comparable"]
  assert not list(tmp_path.glob("*-of-*"))
  assert json.loads((tmp_path / "result.json").read_text())["questions"] == 6


def test_questions_of_one_medium_stay_together(session, data, tmp_path):
  report = ask(session, data, tmp_path, process=(1, 2))
  assert {row["id"] for row in report["answers"]} == {"q2", "q3"}


def test_another_number_of_processes_reads_all_parts(session, data, expected, tmp_path):
  ask(session, data, tmp_path, process=(2, 3))
  ask(session, data, tmp_path, process=(0, 2))
  report = ask(session, data, tmp_path)
  assert rows(report) == kept(tmp_path) == expected
  assert not list(tmp_path.glob("*-of-*"))


def test_more_processes_than_media(session, data, expected, tmp_path):
  for number in range(5):
    report = ask(session, data, tmp_path, process=(number, 5))
  assert rows(report) == expected


def test_a_skipped_question_of_one_share_is_in_the_result_of_all(session, tmp_path):
  data = small.write(tmp_path / "data", videos=2)
  for number in range(2):
    report = ask(session, data, tmp_path / "out", process=(number, 2), allow_missing=True)
  assert (report["questions"], report["skipped"], report["missing"]) == (4, 2, 1)


HOLDER = """
import sys, time
from filax.evals.results_folder import ResultsFolder
with ResultsFolder(sys.argv[1], (0, int(sys.argv[2]))):
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.mark.parametrize("processes", [1, 3])
def test_a_folder_in_use_is_refused(session, data, tmp_path, processes):
  words = [sys.executable, "-c", HOLDER, str(tmp_path), str(processes)]
  with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(OSError, match=f"is in use by process {holder.pid}.*set another --out"):
      ask(session, data, tmp_path)
    holder.kill()
  assert ask(session, data, tmp_path)["finished"]


def test_no_space_is_one_sentence_and_loses_nothing(session, data, expected, tmp_path, monkeypatch):
  original = ResultsFolder.append
  batches = []

  def append(folder, batch):
    """Writes the second batch where files may not grow."""
    batches.append(batch)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if len(batches) == 2:
      size = (tmp_path / "answers.jsonl").stat().st_size
      resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
    try:
      original(folder, batch)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)

  monkeypatch.setattr(ResultsFolder, "append", append)
  with pytest.raises(OSError, match=r"No space is left for the results in .* so far are kept"):
    ask(session, data, tmp_path)
  monkeypatch.undo()
  found, damaged = read_answers(tmp_path / "answers.jsonl")
  assert len(found) == 2 and damaged
  assert rows(ask(session, data, tmp_path)) == kept(tmp_path) == expected


def test_a_file_is_no_folder_for_results(session, data, tmp_path):
  (tmp_path / "x.json").write_text("{}")
  with pytest.raises(ValueError, match=r"--out .*x\.json is a file. Name a folder"):
    ask(session, data, tmp_path / "x.json")


def test_a_damaged_line_is_asked_again(session, data, expected, tmp_path, capsys):
  ask(session, data, tmp_path)
  path = tmp_path / "answers.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[:2], "no json", *lines[3:]]) + "\n")
  (tmp_path / "result.json").unlink()
  assert rows(ask(session, data, tmp_path)) == kept(tmp_path) == expected
  assert "1 damaged lines, the first is line 3" in capsys.readouterr().err


def test_damaged_settings_are_one_sentence(session, data, tmp_path):
  (tmp_path / "settings.json").write_text("{")
  with pytest.raises(ValueError, match=r"settings\.json is damaged"):
    ask(session, data, tmp_path)


def test_launched_processes_take_their_share(run, data, tmp_path, monkeypatch, capsys):
  words = ["evals", "--checkpoint", run, "--benchmark", SMALL, "--data", data, "--out"]
  monkeypatch.setenv("FILAX_PROCESSES", "2")
  for number in ("0", "1"):
    monkeypatch.setenv("FILAX_PROCESS_ID", number)
    assert main([*words, str(tmp_path), "--batch", "2"]) == 0
  assert len(kept(tmp_path)) == 6


def test_the_first_prompt_stays_that_of_the_first_question(session, data, tmp_path, monkeypatch):
  original = ResultsFolder.append

  def append(folder, batch):
    original(folder, batch)
    raise KeyboardInterrupt

  monkeypatch.setattr(ResultsFolder, "append", append)
  with pytest.raises(KeyboardInterrupt):
    ask(session, data, tmp_path)
  monkeypatch.undo()
  assert "on red 0?" in ask(session, data, tmp_path)["first_prompt"]
