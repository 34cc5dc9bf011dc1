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

from data_pipelines.text import tokenizers
import filax
from filax.configs import fila_base
from filax.convert import export_folder
from filax.evals.worker import AnswerWorker
from filax.testing import clips, tiny_checkpoint, tiny_tokenizer

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


def write_task(folder, name, docs):
  """A task of lmms-eval that asks these documents."""
  tasks = folder / "tasks" / name
  tasks.mkdir(parents=True)
  (tasks / "docs.json").write_text(json.dumps(docs))
  (tasks / "utils.py").write_text(FUNCTIONS)
  (tasks / f"{name}.yaml").write_text(TASK.format(name=name, data=tasks / "docs.json"))


def run_lmms_eval(folder, out, names, *words):
  """Runs tasks with lmms-eval; returns name -> (accuracy, answers in the order of documents)."""
  options = ["--tasks", ",".join(names), "--include_path", str(folder / "tasks")]
  options += ["--output_path", str(out), "--log_samples", "--batch_size", "1"]
  variables = dict(
    FILAX_PYTHON=sys.executable,
    PYTHONPATH=os.pathsep.join([str(PLUGIN), str(PLUGIN.parents[1])]),
    HF_HUB_OFFLINE="1",
    HF_HOME=str(folder / "hf_home"),
    CUDA_VISIBLE_DEVICES="",
  )
  done = subprocess.run(
    [LMMS_EVAL, "-m", "lmms_eval", *words, *options],
    env=os.environ | variables,
    capture_output=True,
    text=True,
    cwd=folder,
  )
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  print(done.stdout)
  (results,) = out.rglob("*_results.json")
  scores = json.loads(results.read_text())["results"]
  tasks = {}
  for name in names:
    (samples,) = out.rglob(f"*_samples_{name}.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows.sort(key=lambda row: row["doc_id"])
    answers = [row["filtered_resps"] for row in rows]
    tasks[name] = (scores[name]["accuracy,none"], answers)
  return tasks


def run_filax_evals(folder, run, docs):
  """The same questions asked by filax evals: (accuracy, answers in the order of documents)."""
  records = []
  for doc in docs:
    key = "image" if doc["kind"] == "picture" else "video"
    turns = [
      {"from": "human", "value": f"<{key}>\n{doc['question']}"},
      {"from": "gpt", "value": doc["answer"]},
    ]
    records.append({"id": doc["id"], key: doc["path"], "conversations": turns})
  manifest = folder / "manifest.json"
  manifest.write_text(json.dumps(records))
  report = filax.evaluate(filax.load(run), manifest, max_new_tokens=6, progress=False)
  answers = {row["id"]: row["answer"] for row in report["answers"]}
  return report["accuracy"], [answers[doc["id"]] for doc in docs]


@needs_lmms_eval
def test_scores_of_lmms_eval_are_those_of_filax_evals(folder, docs):
  shown = [doc for doc in docs if doc["kind"] in ("video", "picture")]
  write_task(folder, "filax_shown", shown)
  write_task(folder, "filax_kinds", docs)
  arguments = ["--model", "filax", "--model_args", f"checkpoint={folder / 'run'},batch=4"]
  tasks = run_lmms_eval(folder, folder / "out", ("filax_shown", "filax_kinds"), *arguments)
  expected = run_filax_evals(folder, folder / "run", shown)
  assert tasks["filax_shown"] == expected
  assert 0 < expected[0] < 1
  accuracy, answers = tasks["filax_kinds"]  # Parts of videos and plain text as well.
  assert accuracy == 0.5
  assert answers[::2] == [doc["answer"] for doc in docs[::2]]
  assert len(set(answers)) > 1


@needs_lmms_eval
def test_the_export_of_fila_base_scores_in_lmms_eval_as_in_filax_evals(tmp_path):
  sizes = {"infer.sampling.frames": 8, "model.llm.vocab": 320}
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run", config_file=fila_base, **sizes)
  (tmp_path / "run" / "tokenizer.model").unlink()
  tiny_tokenizer.write_qwen_tokenizer(tmp_path / "run", vocab=314)
  session = filax.load(run)
  side = session.model.encoder.size  # Videos of this size are resized by neither side.
  docs = []
  for name, first in (("a", 0), ("b", 100)):
    path = clips.write_video(tmp_path / f"{name}.mp4", 40, width=side, height=side, first=first)
    for number in range(2):
      question = f"What shape? {number}"
      answer = "never" if number else session.ask(path, question, max_new_tokens=6)
      docs.append(
        dict(id=f"{name}{number}", kind="video", path=path, question=question, answer=answer)
      )
  request = export_folder.ExportRequest(
    run, tmp_path / "hf", "hf", tokenizer=tokenizers.load_tokenizer(run)
  )
  export_folder.export_checkpoint(request)
  write_task(tmp_path, "filax_base", docs)
  arguments = f"pretrained={tmp_path / 'hf'},dtype=float32,max_frames_num=8,device_map=cpu"
  words = ["--model", "llava_hf", "--force_simple", "--device", "cpu", "--model_args", arguments]
  tasks = run_lmms_eval(tmp_path, tmp_path / "out", ("filax_base",), *words)
  expected = run_filax_evals(tmp_path, run, docs)
  assert tasks["filax_base"] == expected
  assert expected[0] == 0.5 and len(set(expected[1])) > 1


def test_without_its_python_the_worker_names_the_knob(monkeypatch):
  monkeypatch.delenv("FILAX_PYTHON", raising=False)
  with pytest.raises(worker_process.WorkerFailed, match="Set FILAX_PYTHON to the Python"):
    worker_process.FilaxWorker([])
  monkeypatch.setenv("FILAX_PYTHON", "/nowhere/python")
  with pytest.raises(worker_process.WorkerFailed, match="/nowhere/python is not a program"):
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
