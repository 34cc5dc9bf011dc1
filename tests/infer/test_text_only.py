# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of a language model alone answers without a video."""

import json

import pytest

import filax
from filax.cli import main
from filax.testing import qwen2_folder, tiny_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  """A random Qwen2 with a tokenizer, converted from a folder of transformers."""
  folder = tmp_path_factory.mktemp("text")
  tokenizer = tiny_tokenizer.write_qwen_tokenizer(folder)
  tensors = qwen2_folder.qwen2_tensors(vocab=512)
  hub = qwen2_folder.write_qwen2_folder(folder / "hub", tensors, vocab_size=512)
  out = folder / "run"
  arguments = ["convert", "from", "--source", str(hub), "--tokenizer", str(tokenizer)]
  assert main.main([*arguments, "--out", str(out)]) == 0
  return out


def test_it_answers_a_question_and_remembers_the_talk(checkpoint):
  session = filax.load(checkpoint)
  talk = session.conversation(None)
  first = talk.ask("Hello?", max_new_tokens=4)
  second = talk.ask("And now?", max_new_tokens=4)
  assert talk.times == [] and second.prompt_tokens > first.prompt_tokens


def test_a_talk_about_no_video_has_none_to_show(checkpoint):
  talk = filax.load(checkpoint).conversation(None)
  with pytest.raises(ValueError, match="about no video"):
    talk.video_and_media()


def test_a_video_is_refused_by_name(checkpoint, tmp_path):
  session = filax.load(checkpoint)
  with pytest.raises(ValueError, match="a language model alone"):
    session.conversation(tmp_path / "clip.mp4")


def test_the_command_answers_as_json(checkpoint, capsys):
  arguments = ["chat", "--checkpoint", str(checkpoint), "--question", "Hi", "--json"]
  assert not main.main([*arguments, "--max-new-tokens", "3"])
  row = json.loads(capsys.readouterr().out)
  assert row["video"] is None and row["tokens"] <= 3 and row["scenes"] == []


def test_a_folder_of_transformers_with_the_llm_alone_answers(checkpoint, tmp_path, monkeypatch):
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  tokenizer = checkpoint / "tokenizer.json"
  hub = checkpoint.parent / "hub"
  (hub / "tokenizer.json").write_bytes(tokenizer.read_bytes())
  assert isinstance(filax.load(hub).ask(None, "Hello?", max_new_tokens=2), str)
