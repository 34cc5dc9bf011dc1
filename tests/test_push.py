# SPDX-License-Identifier: Apache-2.0
"""filax push: the card, weights alone, nothing of this machine, and a hub that is a fake."""

import base64
import http.server
import json
import pathlib
import re
import threading

import numpy as np
import pytest

from data_pipelines.text import tokenizers
import filax
from filax.checkpoint import store
from filax.checkpoint.tree import flatten_tree
from filax.cli.main import main
from filax.evals.results import read_results
from filax.hub.shared_config import shared_config
from filax.testing import evaluation_results, qwen2_folder, tiny_checkpoint

pytestmark = pytest.mark.slow

PRIVATE = {
  "data.root": "/data/private/videos",
  "data.train": (("/home/ann/manifests/mine.json", "all"),),
  "init_from": "gs://lab/secret/run",
}


@pytest.fixture
def run(tmp_path):
  folder = tiny_checkpoint.write_checkpoint(tmp_path / "run", **PRIVATE)
  lines = [
    json.dumps(dict(step=7, loss=1.25, accuracy=0.5)),
    json.dumps({"step": 7, "eval/held_out/accuracy": 0.625}),
  ]
  (tmp_path / "run/metrics.jsonl").write_text("\n".join(lines) + "\n")
  (tmp_path / "run/secret.txt").write_text("not for others")
  return folder


def push(run, tmp_path, capsys, *more):
  words = ["push", run, "--repo", "me/tiny", "--out", str(tmp_path / "hub"), "--json", *more]
  code = main(words)
  out, err = capsys.readouterr()
  return code, json.loads(out) if out else None, err


def test_the_chat_template_and_the_end_tokens_are_published(run, tmp_path, capsys):
  """A run that writes by its template could not answer without it. Paths stay here."""
  template = "{% for m in messages %}{{ m.content }}{% endfor %}"
  settings = dict(chat_template=template, eos_token="<|im_start|>", name_or_path="/home/ann/llm")
  (tmp_path / "run/tokenizer_config.json").write_text(json.dumps(settings))
  assert push(run, tmp_path, capsys)[0] == 0
  published = tokenizers.load_tokenizer(tmp_path / "hub")
  assert published.chat.source == template
  assert published.stop_ids == tokenizers.load_tokenizer(run).stop_ids
  assert published.special("<|im_start|>") in published.stop_ids
  assert "ann" not in (tmp_path / "hub/tokenizer_config.json").read_text()


def test_a_dry_run_shows_what_would_be_uploaded(run, tmp_path, capsys):
  code, report, _ = push(run, tmp_path, capsys, "--license", "apache-2.0")
  assert code == 0 and not report["uploaded"]
  assert set(report["files"]) == {
    "README.md",
    "config.json",
    "tokenizer.model",
    "checkpoints/0/...",
  }
  card = (tmp_path / "hub/README.md").read_text()
  head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.S).groups()
  assert 'license: "apache-2.0"' in head and 'library_name: "filax"' in head
  for words in (
    "`mine.json`, all",
    "7 steps, loss 1.2500",
    "| held_out, while training | accuracy | 0.625",
  ):
    assert words in body
  assert "| llm | qwen2 |" in body and 'snapshot_download("me/tiny")' in body


def test_no_path_of_this_machine_is_published(run, tmp_path, capsys):
  push(run, tmp_path, capsys)
  for path in (tmp_path / "hub").rglob("*"):
    if path.is_file():
      content = path.read_bytes()
      for secret in (
        b"/data/private",
        b"/home/ann",
        b"gs://lab",
        str(tmp_path).encode(),
        b"not for",
      ):
        assert secret not in content, path


def test_every_kind_of_path_in_a_config_is_cut():
  config = {
    "init_from": "runs/base",
    "data": {"train": (("a/b.json", "all"),), "tokenizer": "x/t.json", "template": "chatml"},
    "evals": (("q/held.json", 500, 10, "/media", "vcf"),),
    "optim": {"rates": (("^llm/layers/", 1e-4),)},
    "model": {"encoder": {"name": "siglip", "weights": "/mnt/w.bin"}},
  }
  assert shared_config(config) == {
    "init_from": "base",
    "data": {"train": (("b.json", "all"),), "tokenizer": "t.json", "template": "chatml"},
    "evals": (("held.json", 500, 10, "media", "vcf"),),
    "optim": {"rates": (("^llm/layers/", 1e-4),)},
    "model": {"encoder": {"name": "siglip", "weights": "w.bin"}},
  }


def test_results_are_in_the_card(run, tmp_path, capsys):
  folder = evaluation_results.write_results(tmp_path / "results", evaluation_results.answer_rows(4))
  push(run, tmp_path, capsys, "--results", str(folder))
  result = read_results(folder).result
  assert (
    f"| {result['benchmark']} ({result['protocol']}) |" in (tmp_path / "hub/README.md").read_text()
  )


class Hub(http.server.BaseHTTPRequestHandler):
  """The few requests of the hub that an upload of small files makes."""

  def log_message(self, *args):
    """Nothing is printed."""

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    server = self.server
    if self.path == "/api/repos/create":
      server.created = json.loads(body)
      self.reply(dict(url=f"{server.address}/me/tiny", name="me/tiny"))
    elif self.path == "/api/validate-yaml":
      self.reply(dict(errors=[], warnings=[]))
    elif "/preupload/" in self.path:
      files = json.loads(body)["files"]
      modes = [dict(path=file["path"], uploadMode="regular", shouldIgnore=False) for file in files]
      self.reply(dict(files=modes))
    elif "/commit/" in self.path:
      for line in body.splitlines():
        entry = json.loads(line)
        if entry["key"] == "file":
          server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
      commit = dict(commitUrl=f"{server.address}/me/tiny/commit/1", commitOid="1", success=True)
      self.reply(commit)
    else:
      self.send_error(404)

  def do_GET(self):
    self.reply(dict(id="me/tiny", sha="0", siblings=[]))

  def reply(self, content):
    body = json.dumps(content).encode()
    self.send_response(200)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch):
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.files = {}
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_fake")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_an_upload_answers_as_the_run(run, hub, tmp_path, capsys):
  pytest.importorskip("huggingface_hub")
  code, report, err = push(run, tmp_path, capsys, "--yes", "--private")
  assert code == 0, err
  assert "private" in json.dumps(hub.created) and report["commit"].endswith("/commit/1")
  assert set(hub.files) == set(report["files"]) and ".filax-push" not in hub.files
  fetched = tmp_path / "fetched"
  for name, content in hub.files.items():
    path = fetched / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  ours = filax.load(run)
  theirs = filax.load(fetched)
  for name, leaf in flatten_tree(ours.params).items():
    np.testing.assert_array_equal(leaf, flatten_tree(theirs.params)[name])
  assert theirs.ask(None, "What?") == ours.ask(None, "What?")
  assert store.read_config(fetched)["data"]["root"] == "videos"


def test_a_hub_that_refuses_is_one_sentence(run, hub, tmp_path, capsys, monkeypatch):
  pytest.importorskip("huggingface_hub")
  monkeypatch.setattr(Hub, "do_POST", lambda self: self.send_error(403))
  code, _, err = push(run, tmp_path, capsys, "--yes")
  assert code == 2 and "me/tiny could not be uploaded" in err


def test_bad_words_are_one_sentence(run, tmp_path, capsys):
  assert main(["push", run, "--repo", "tiny"]) == 2
  assert "--repo=tiny cannot be used. Set it to ORG/NAME." in capsys.readouterr().err
  (tmp_path / "used").mkdir()
  (tmp_path / "used/README.md").write_text("mine")
  assert main(["push", run, "--repo", "me/tiny", "--out", str(tmp_path / "used")]) == 2
  assert "is in use" in capsys.readouterr().err
  assert (tmp_path / "used/README.md").read_text() == "mine"
  assert main(["push", str(tmp_path / "nothing"), "--repo", "me/tiny"]) == 2


def test_an_export_is_described_by_its_own_config(run, tmp_path, capsys):
  export = str(tmp_path / "export")
  assert main(["convert", "to", "--checkpoint", run, "--format", "hf", "--out", export]) == 0
  capsys.readouterr()
  code, report, err = push(export, tmp_path, capsys)
  assert code == 0, err
  files = {"config.json", "run_torch.py", "fila/scene_merger.safetensors"}
  assert files | {"model-00001-of-00001.safetensors"} <= set(report["files"])
  assert "conversion_report.json" not in report["files"]
  card = (tmp_path / "hub/README.md").read_text()
  assert "| llm | qwen2 |" in card and "| merger | weighted |" in card
  assert "?" not in card.partition("## Model")[2]
  assert filax.load(tmp_path / "hub").ask(None, "What?") == filax.load(run).ask(None, "What?")


def test_adapters_for_peft_have_a_card_for_peft(tmp_path, capsys):
  folder = tmp_path / "adapters"
  folder.mkdir()
  settings = dict(peft_type="LORA", base_model_name_or_path="/lab/secret/base")
  (folder / "adapter_config.json").write_text(json.dumps(settings))
  (folder / "adapter_model.safetensors").write_bytes(b"")
  code, _, err = push(str(folder), tmp_path, capsys)
  assert code == 0, err
  card = (tmp_path / "hub/README.md").read_text()
  assert 'library_name: "peft"' in card and "PeftModel.from_pretrained" in card
  assert "filax.load" not in card, "it refuses adapters without their model"
  published = json.loads((tmp_path / "hub/adapter_config.json").read_text())
  assert published == settings | dict(base_model_name_or_path="base")
  assert json.loads((folder / "adapter_config.json").read_text()) == settings
  push(str(folder), tmp_path, capsys, "--base-model", "me/base")
  assert "me/base, loaded with transformers" in (tmp_path / "hub/README.md").read_text()


def test_a_language_model_alone_is_not_asked_about_a_video(tmp_path, capsys):
  folder = qwen2_folder.write_qwen2_folder(tmp_path / "qwen2")
  code, _, err = push(str(folder), tmp_path, capsys)
  assert code == 0, err
  card = (tmp_path / "hub/README.md").read_text()
  assert "session.ask(None, " in card and '"text-generation"' in card


def test_a_link_out_of_the_folder_is_not_followed(tmp_path, capsys):
  """A cloned folder may link to any file of the user."""
  folder = pathlib.Path(qwen2_folder.write_qwen2_folder(tmp_path / "qwen2"))
  (tmp_path / "secret").write_text("not for others")
  (folder / "inside.txt").symlink_to("config.json")
  (folder / "notes.txt").symlink_to(tmp_path / "secret")
  code, _, err = push(str(folder), tmp_path, capsys)
  assert code == 2 and f"'notes.txt' is a link to {tmp_path}/secret" in err
  assert "not for others" not in "".join(map(read_any, (tmp_path / "hub").iterdir()))
  (folder / "notes.txt").unlink()
  code, report, err = push(str(folder), tmp_path, capsys)
  assert code == 0 and "inside.txt" in report["files"], err


def read_any(path):
  return path.read_text(errors="replace")


def test_a_folder_that_is_not_there_leaves_nothing(tmp_path, capsys):
  assert main(["push", str(tmp_path / "nothing"), "--repo", "me/tiny"]) == 2
  assert "There is no" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_a_second_push_replaces_the_first(run, tmp_path, capsys):
  push(run, tmp_path, capsys)
  pathlib.Path(tmp_path, "hub/old.json").write_text("{}")
  _, report, _ = push(run, tmp_path, capsys)
  assert "old.json" not in report["files"]
