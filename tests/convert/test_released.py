# SPDX-License-Identifier: Apache-2.0
"""Released folders as checkpoints: converted once into the user's cache, and read from there."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
import tokenizers as hf

from data_pipelines.text import tokenizers
import filax
from filax import released, starting_point
from filax.checkpoint import base, storage, store
from filax.cli import checkpoint_options, push
from filax.cli.main import main
from filax.convert import conversion_cache, export_folder
from filax.testing import clips, interrupted, qwen2_folder, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty cache of the user."""
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache" / "converted"


@pytest.fixture
def source(tmp_path):
  return qwen2_folder.write_qwen2_folder(tmp_path / "hub")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """(run, its export in the form of transformers)."""
  folder = tmp_path_factory.mktemp("exported")
  run = tiny_checkpoint.write_checkpoint(folder / "run")
  tokenizer = tokenizers.load_tokenizer(run)
  request = export_folder.ExportRequest(run, folder / "hf", "hf", tokenizer=tokenizer)
  export_folder.export_checkpoint(request)
  return run, folder / "hf"


def entries(cache) -> list[pathlib.Path]:
  return sorted(path for path in cache.iterdir() if path.suffix != ".lock")


def refusal(call, *args) -> str:
  with pytest.raises((ValueError, OSError)) as error:
    call(*args)
  return str(error.value)


def test_an_export_answers_as_its_run(exported, tmp_path):
  run, folder = exported
  video = clips.write_video(tmp_path / "a.mp4", 30)
  expected = filax.load(run).ask(video, QUESTION)
  assert filax.load(folder).ask(video, QUESTION) == expected


def test_chat_takes_an_export_and_says_once_that_it_converts(exported, tmp_path, cache, capsys):
  _, folder = exported
  video = clips.write_video(tmp_path / "a.mp4", 30)
  words = ["chat", "--checkpoint", str(folder), "--video", video, "--question", QUESTION]
  assert main(words) == 0
  first = capsys.readouterr()
  assert first.err.startswith(f"Converting {folder} (0.0 GB) once, into {cache}/hf-")
  assert main(words) == 0
  second = capsys.readouterr()
  assert second.out == first.out and not second.err
  (entry,) = entries(cache)
  report = json.loads((entry / "conversion_report.json").read_text())
  assert report["source"] == [str(folder)] and not report["drawn_anew"]


def test_evals_take_an_export(exported, tmp_path):
  _, folder = exported
  clips.write_video(tmp_path / "a.mp4", 30)
  record = dict(
    id="a",
    video="a.mp4",
    conversations=[
      {"from": "human", "value": f"<video>\n{QUESTION}"},
      {"from": "gpt", "value": "circle"},
    ],
  )
  (tmp_path / "m.json").write_text(json.dumps([record]))
  common = ["--checkpoint", str(folder)]
  assert main(["evals", *common, "--manifest", str(tmp_path / "m.json")]) == 0


def test_an_export_is_exported_again(exported, tmp_path):
  _, folder = exported
  out = tmp_path / "again"
  assert main(["convert", "to", "--checkpoint", str(folder), "--out", str(out)]) == 0
  again = json.loads((out / "conversion_report.json").read_text())["tensors"]
  before = json.loads((folder / "conversion_report.json").read_text())["tensors"]
  assert {row["name"]: row["sha256"] for row in again} == {
    row["name"]: row["sha256"] for row in before
  }


def test_a_run_starts_from_an_export_and_goes_on_without_it(exported, tmp_path, cache, capsys):
  _, folder = exported
  started = starting_point.initial_checkpoint(str(folder), str(tmp_path / "w"))
  params, missing, _ = store.restore_params(started)
  assert params and not missing and entries(cache) == [pathlib.Path(started)]
  store.save_params(tmp_path / "w", params, store.read_config(started))
  assert starting_point.initial_checkpoint(str(folder), str(tmp_path / "w")) == started


def test_a_resumed_run_converts_nothing(source, tmp_path, cache):
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  path = starting_point.initial_checkpoint(str(source), run)
  assert path.startswith(str(cache)) and not cache.exists()


def test_a_language_model_is_converted_but_needs_a_tokenizer_to_answer(source):
  params, _, _ = store.restore_params(released.find_checkpoint(source))
  assert set(params) == {"llm"}
  assert f"{source} has no tokenizer" in refusal(filax.load, source)


TURNS = "{% for m in messages %}<|turn|>{{ m['content'] }}<|eot_id|>{% endfor %}<|turn|>"


def test_a_vocabulary_without_chatml_answers_by_its_own_template(source):
  words = hf.Tokenizer(hf.models.WordLevel({"[UNK]": 0, "hi": 1}, unk_token="[UNK]"))
  words.pre_tokenizer = hf.pre_tokenizers.Whitespace()
  words.add_special_tokens(["<|turn|>", "<|eot_id|>"])
  words.save(str(source / "tokenizer.json"))
  (source / "tokenizer_config.json").write_text(json.dumps(dict(chat_template=TURNS)))
  session = filax.load(source)
  assert session.processor.data["template"] == "chat"
  answer = session.conversation(None).ask("hi", max_new_tokens=2)
  assert answer.prompt_tokens == 4


def test_a_language_model_alone_gets_the_system_turn_of_its_own_template(source):
  words = hf.Tokenizer(hf.models.WordLevel({"[UNK]": 0, "hi": 1}, unk_token="[UNK]"))
  words.add_special_tokens(["<|im_start|>", "<|im_end|>"])
  words.save(str(source / "tokenizer.json"))
  turn = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
  template = f"<|im_start|>system\nhi<|im_end|>\n{{% for m in messages %}}{turn}{{% endfor %}}"
  (source / "tokenizer_config.json").write_text(json.dumps(dict(chat_template=template)))
  data = filax.load(source).processor.data
  assert (data["template"], data["system"]) == ("chatml", "hi")


def test_an_export_without_a_tokenizer_says_so(exported, tmp_path):
  _, folder = exported
  copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("tokenizer*"))
  assert f"{copy} has no tokenizer" in refusal(filax.load, copy)


def test_a_run_is_taken_as_it_is(exported, cache, monkeypatch):
  run, _ = exported
  monkeypatch.setattr(storage, "_answered", {"gs://bucket"})
  for path in (run, f"{run}/checkpoints", f"{run}/checkpoints/0", "gs://bucket/run", "nowhere"):
    assert released.find_checkpoint(path) == path
  assert not cache.exists()


def test_a_changed_source_gets_a_new_entry(source, cache):
  first = released.find_checkpoint(source)
  qwen2_folder.write_qwen2_folder(source, rope_theta=5e5)
  second = released.find_checkpoint(source)
  qwen2_folder.write_qwen2_folder(source, qwen2_folder.qwen2_tensors(seed=1), rope_theta=5e5)
  third = released.find_checkpoint(source)
  assert len({first, second, third}) == len(entries(cache)) == 3


def test_weights_changed_in_place_under_an_old_time_get_a_new_entry(source):
  weights = source / "model.safetensors"
  times = weights.stat()
  before = conversion_cache.source_key(source)
  qwen2_folder.write_qwen2_folder(source, qwen2_folder.qwen2_tensors(seed=1))
  os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
  assert conversion_cache.source_key(source) != before


def test_a_folder_that_was_downloaded_in_part_says_what_is_missing(source):
  """Only the documents, or an index without its files."""
  (source / "model.safetensors").unlink()
  with pytest.raises(ValueError, match=r"config\.json of a released qwen2, but no .*hf download"):
    released.find_checkpoint(source)
  weight_map = {"model.norm.weight": "model-00001-of-00002.safetensors"}
  index = source / "model.safetensors.index.json"
  index.write_text(json.dumps(dict(weight_map=weight_map)))
  with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors \(named by the index"):
    released.find_checkpoint(source)


def test_an_entry_that_lost_a_part_is_made_anew(source, capsys):
  entry = pathlib.Path(released.find_checkpoint(source))
  (entry / "conversion_report.json").unlink()
  assert released.find_checkpoint(source) == str(entry)
  assert (entry / "conversion_report.json").exists()
  assert capsys.readouterr().err.count("Converting") == 2


def test_what_a_killed_conversion_left_is_removed(source, cache):
  entry = conversion_cache.entry_path(source)
  interrupted.kill_writer(
    f"write_folder_atomically({str(entry)!r})", "(out / 'config.json').write_bytes(b'half')"
  )
  assert len(entries(cache)) == 1
  released.find_checkpoint(source)
  assert entries(cache) == [entry]


def test_of_several_processes_one_converts_and_the_others_wait(source, cache):
  entry = conversion_cache.entry_path(source)
  code = f"from filax import released; print(released.find_checkpoint({str(source)!r}))"
  words = [sys.executable, "-c", code]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  with conversion_cache._lock(entry):
    processes = [subprocess.Popen(words, **pipes) for _ in range(2)]
    for process in processes:
      assert "Waiting for the process that writes" in process.stderr.readline()
  outputs = [process.communicate() for process in processes]
  assert entries(cache) == [entry]
  assert [out.strip() for out, _ in outputs] == [str(entry)] * 2
  assert sum("Converting" in err for _, err in outputs) == 1


def test_a_cache_that_cannot_be_written_names_the_knob(source, tmp_path, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "file"))
  message = refusal(released.find_checkpoint, source)
  assert "cannot be written" in message and "Set FILAX_CACHE to a folder" in message


def test_an_entry_that_this_user_may_not_read_names_the_knob():
  """A colleague with umask 077 has converted the folder into a shared cache."""
  with tempfile.TemporaryDirectory() as cache:  # pytest's own folder is closed to other users.
    entry = pathlib.Path(cache, "entry")
    entry.mkdir(mode=0)
    with interrupted.read_only_folder(entry.parent):
      message = refusal(conversion_cache.is_whole, entry)
  assert f"{entry} in the cache cannot be read" in message and "set FILAX_CACHE" in message


def test_a_full_cache_names_the_knob(source, cache):
  code = f"from filax import released; released.find_checkpoint({str(source)!r})"
  done = subprocess.run(  # No file may grow beyond 4 kB.
    ["bash", "-c", 'ulimit -f 4; exec "$@"', "-", sys.executable, "-c", code],
    capture_output=True,
    text=True,
  )
  assert "There is no space for" in done.stderr and "another FILAX_CACHE" in done.stderr
  assert not entries(cache)


def test_a_cache_made_by_others_may_be_read_only(source, cache, monkeypatch):
  entry = released.find_checkpoint(source)

  def refuse(entry):
    raise AssertionError("locked")

  monkeypatch.setattr(conversion_cache, "_lock", refuse)
  assert released.find_checkpoint(source) == entry


@pytest.mark.parametrize(
  ("variables", "expected"),
  [
    (dict(FILAX_CACHE="/a"), "/a/converted"),
    (dict(FILAX_CACHE="", XDG_CACHE_HOME="/b"), "/b/filax/converted"),
    (dict(FILAX_CACHE="", XDG_CACHE_HOME="", HOME="/c"), "/c/.cache/filax/converted"),
  ],
)
def test_where_the_cache_is(variables, expected, monkeypatch):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  assert conversion_cache.cache_folder() == pathlib.Path(expected)


def test_a_folder_of_another_family_is_one_sentence(tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", model_type="mamba")
  message = refusal(filax.load, source)
  assert "'mamba'" in message and f"filax convert from --source {source}" in message


def base_of_chat(folder):
  words = ["--checkpoint", "x", "--video", "x", "--base", folder]
  checkpoint_options.video_parser("chat", "").parse_args(words)


def base_of_push(folder):
  push.push_parser().parse_args(["x", "--repo", "me/x", "--base", folder])


@pytest.mark.parametrize("parse", [base_of_chat, base_of_push])
def test_a_released_folder_may_be_the_base_of_adapters(parse, source, cache, monkeypatch):
  """Also when the cache was emptied since: it is converted to the same checkpoint again."""
  monkeypatch.setattr(base, "_MOVED", [])
  before = base.refer(store.newest_step(released.find_checkpoint(source)))
  shutil.rmtree(cache)
  parse(str(source))
  assert base.BaseReference("/nowhere/0", before.root).locate().parent.parent.parent == cache


def test_adapters_of_peft_are_no_model(tmp_path):
  (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
  (tmp_path / "adapter_model.safetensors").write_bytes(b"")
  with pytest.raises(ValueError, match=r"holds adapters of PEFT and no model.*--base MODEL"):
    filax.load(tmp_path)


def test_a_damaged_folder_leaves_no_entry(source, cache):
  file = source / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-100])
  message = refusal(filax.load, source)
  assert "cut short" in message and "filax convert from" not in message  # It would not help.
  assert not entries(cache)
