# SPDX-License-Identifier: Apache-2.0
"""The package plugins/lmms_eval: its worker process, and the scores of lmms-eval itself.

What needs lmms-eval runs where FILAX_LMMS_EVAL names the Python of its environment (make
test-lmms-eval).
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys

from PIL import Image
import pytest

import filax
from filax.evals.worker import AnswerWorker
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

PLUGIN = pathlib.Path(__file__).parents[2] / "plugins/lmms_eval"
LMMS_EVAL = os.environ.get("FILAX_LMMS_EVAL", "")
needs_lmms_eval = pytest.mark.skipif(not LMMS_EVAL, reason="FILAX_LMMS_EVAL names no Python")
sys.path.insert(0, str(PLUGIN))
visuals = importlib.import_module("filax_lmms_eval.visuals")
worker_process = importlib.import_module("filax_lmms_eval.worker_process")

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function utils.process_results
generation_kwargs: {{max_new_tokens: 6, temperature: 0, do_sample: false}}
metric_list: [{{metric: accuracy, aggregation: mean, higher_is_better: true}}]
"""
FUNCTIONS = """
from PIL import Image

def doc_to_visual(doc):
  if doc["kind"] == "clip":
    return [doc["path"], {"start": doc["start"], "end": doc["end"]}]
  if doc["kind"] == "picture":
    return [Image.open(doc["path"])]
  return [doc["path"]] if doc["path"] else []

def process_results(doc, results):
  return {"accuracy": float(results[0] == doc["answer"])}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with a run, two videos and a picture."""
  folder = tmp_path_factory.mktemp("lmms")
  tiny_checkpoint.write_checkpoint(folder / "run")
  clips.write_video(folder / "a.mp4", 40)
  clips.write_video(folder / "b.mp4", 30)
  Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "p.png")
  return folder


@pytest.fixture(scope="module")
def docs(folder):
  """Questions of every kind; every other expected answer is what the model answers."""
  paths = {"video": "a.mp4", "clip": "b.mp4", "picture": "p.png", "text": ""}
  kinds = ("video", "picture", "clip", "video", "text", "video", "clip", "picture")
  worker = AnswerWorker(filax.load(folder / "run"), batch=4, threads=1)
  docs = []
  for number, kind in enumerate(kinds):
    path = str(folder / paths[kind]) if paths[kind] else ""
    doc = dict(id=str(number), kind=kind, path=path, question=f"What shape is on red? {number}")
    doc |= dict(start=0.5, end=2.0)
    medium = dict(path=path, start=0.5, end=2.0) if kind == "clip" else path
    media = [medium] if path else []
    request = dict(id=1, prompt=doc["question"], media=media, max_new_tokens=6)
    (reply,) = worker.answer_line(json.dumps(request))
    assert reply["answer"]
    docs.append(doc | dict(answer="never" if number % 2 else reply["answer"]))
  return docs


def run_lmms_eval(folder, docs, name, *words, **environment):
  """Runs a task of these documents; returns (scores, answers in the order of documents)."""
  tasks = folder / name
  tasks.mkdir()
  (tasks / "docs.json").write_text(json.dumps(docs))
  (tasks / "utils.py").write_text(FUNCTIONS)
  (tasks / f"{name}.yaml").write_text(TASK.format(name=name, data=tasks / "docs.json"))
  options = ["--tasks", name, "--include_path", str(tasks), "--output_path", str(tasks / "out")]
  paths = os.pathsep.join([str(PLUGIN), str(PLUGIN.parents[1])])
  done = subprocess.run(
    [LMMS_EVAL, "-m", "lmms_eval", *words, *options, "--log_samples", "--batch_size", "1"],
    env=os.environ
    | dict(FILAX_PYTHON=sys.executable, PYTHONPATH=paths, HF_HUB_OFFLINE="1")
    | dict(HF_HOME=str(folder / "hf"), CUDA_VISIBLE_DEVICES="")
    | environment,
    capture_output=True,
    text=True,
    cwd=folder,
  )
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  print(done.stdout)
  (results,) = (tasks / "out").rglob("*_results.json")
  (samples,) = (tasks / "out").rglob(f"*_samples_{name}.jsonl")
  rows = [json.loads(line) for line in samples.read_text().splitlines()]
  rows.sort(key=lambda row: row["doc_id"])
  answers = [row["filtered_resps"] for row in rows]
  return json.loads(results.read_text())["results"][name], answers


@needs_lmms_eval
def test_scores_of_lmms_eval_are_those_of_filax_evals(folder, docs):
  shown = [doc for doc in docs if doc["kind"] in ("video", "picture")]
  records = []
  for doc in shown:
    key = "image" if doc["kind"] == "picture" else "video"
    turns = [
      {"from": "human", "value": f"<{key}>\n{doc['question']}"},
      {"from": "gpt", "value": doc["answer"]},
    ]
    records.append({"id": doc["id"], key: doc["path"], "conversations": turns})
  (folder / "m.json").write_text(json.dumps(records))
  report = filax.evaluate(filax.load(folder / "run"), folder / "m.json", max_new_tokens=6)
  arguments = f"checkpoint={folder / 'run'},batch=4"
  scores, answers = run_lmms_eval(
    folder, shown, "filax_shown", "--model", "filax", "--model_args", arguments
  )
  expected = {row["id"]: row["answer"] for row in report["answers"]}
  assert answers == [expected[doc["id"]] for doc in shown]
  assert scores["accuracy,none"] == report["accuracy"]
  assert 0 < report["accuracy"] < 1


@needs_lmms_eval
def test_every_kind_of_visual_is_answered_in_order(folder, docs):
  arguments = f"checkpoint={folder / 'run'},batch=4"
  scores, answers = run_lmms_eval(
    folder, docs, "filax_kinds", "--model", "filax", "--model_args", arguments
  )
  assert scores["accuracy,none"] == 0.5
  assert answers[::2] == [doc["answer"] for doc in docs[::2]]


def test_without_its_python_the_worker_names_the_knob(monkeypatch):
  monkeypatch.delenv("FILAX_PYTHON", raising=False)
  with pytest.raises(worker_process.WorkerFailed, match="Set FILAX_PYTHON to the Python"):
    worker_process.FilaxWorker([])
  monkeypatch.setenv("FILAX_PYTHON", "/nowhere/python")
  with pytest.raises(worker_process.WorkerFailed, match="/nowhere/python is no program"):
    worker_process.FilaxWorker([])


def test_a_worker_that_cannot_start_shows_its_last_words(tmp_path):
  with pytest.raises(worker_process.WorkerFailed) as error:
    worker_process.FilaxWorker([f"--checkpoint={tmp_path}"], sys.executable)
  assert "ended with code 2" in str(error.value) and "No readable checkpoint" in str(error.value)


def test_a_worker_that_dies_while_it_answers_shows_its_last_words(tmp_path):
  package = tmp_path / "filax"
  package.mkdir()
  code = (
    "import sys\nprint('{\"schema\": 1}', flush=True)\nsys.stdin.readline()\n"
    "print('out of memory', file=sys.stderr)\nsys.exit(9)"
  )
  (package / "__main__.py").write_text(code)
  python = tmp_path / "python"
  python.write_text(f'#!/bin/sh\ncd {tmp_path}\nPYTHONPATH= exec {sys.executable} "$@"\n')
  python.chmod(0o755)
  worker = worker_process.FilaxWorker([], str(python))
  with pytest.raises(worker_process.WorkerFailed) as error:
    list(worker.replies([dict(id=1)]))
  assert "ended with code 9" in str(error.value) and "out of memory" in str(error.value)


def test_visuals_become_media(folder, tmp_path):
  picture = Image.new("CMYK", (4, 4))
  clip = {"start": 1, "end": None, "video_read_type": "decord"}
  first, second = visuals.request_media([[str(folder / "a.mp4"), clip], picture], str(tmp_path))
  assert first == dict(path=str(folder / "a.mp4"), start=1.0)
  assert Image.open(second["path"]).size == (4, 4)
  assert visuals.request_media(None, str(tmp_path)) == []


def test_a_visual_of_another_kind_is_one_sentence(tmp_path):
  with pytest.raises(ValueError, match="A visual of type bytes cannot be shown"):
    visuals.request_media([b"x"], str(tmp_path))
