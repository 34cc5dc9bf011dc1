# SPDX-License-Identifier: Apache-2.0
"""The list of bad media: each once, whatever happens to the file."""

import errno
import json
import time

import pytest

from data_pipelines.manifest import quarantine
from data_pipelines.manifest.quarantine import add_to_quarantine, blamed_medium, read_quarantine
from data_pipelines.sample import Scene


def test_a_torn_line_names_nothing_and_spoils_no_other(tmp_path):
  listed = tmp_path / "q.jsonl"
  listed.write_text('{"media": "a.mp4", "error": "x", "origin": "m:1"}\n{"media": "b.m')
  for media in ("a.mp4", "b.mp4", "b.mp4"):
    add_to_quarantine(listed, media, "x", "m:2")
  assert read_quarantine(listed) == {"a.mp4", "b.mp4"}
  assert len(listed.read_text().splitlines()) == 3


def test_a_file_system_without_locks_has_a_list(tmp_path, monkeypatch):
  def refuse(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(quarantine.fcntl, "flock", refuse)
  for media in ("a.mp4", "b.mp4", "a.mp4"):
    add_to_quarantine(tmp_path / "q.jsonl", media, "x", "m:1")
  assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 2


def test_a_long_list_is_read_once(tmp_path):
  listed = tmp_path / "q.jsonl"
  line = '{{"media": "/videos/{:07}.mp4", "error": "is empty", "origin": "m:1"}}\n'
  listed.write_text("".join(map(line.format, range(20_000))))
  began = time.process_time()
  for number in range(1000):
    add_to_quarantine(listed, f"/videos/{number:07}.mp4", "is empty", "m:2")
  assert time.process_time() - began < 5, "each call read the whole list again"
  assert len(read_quarantine(listed)) == 20_000


def test_another_file_under_the_same_name_is_read_anew(tmp_path):
  listed = tmp_path / "q.jsonl"
  for origin in ("m:1", "m:2"):
    listed.unlink(missing_ok=True)
    add_to_quarantine(listed, "a.mp4", "x", origin)
    assert json.loads(listed.read_text())["origin"] == origin


def test_an_entry_of_another_process_is_seen(tmp_path):
  listed = tmp_path / "q.jsonl"
  add_to_quarantine(listed, "a.mp4", "x", "m:1")
  with open(listed, "a") as file:
    file.write(json.dumps(dict(media="b.mp4", error="x", origin="m:2")) + "\n")
  add_to_quarantine(listed, "b.mp4", "x", "m:3")
  assert len(listed.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", ["a.mp4\nb.mp4\n", '["a.mp4"]', b"\xff\xfe", '{"media": 3}'])
def test_a_list_of_another_form_excludes_nothing_and_is_an_error(tmp_path, content):
  listed = tmp_path / "q.jsonl"
  listed.write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(ValueError, match="excludes nothing"):
    read_quarantine(listed)
  listed.write_text("")
  assert read_quarantine(listed) == frozenset()


def test_an_entry_holds_medium_error_and_origin(tmp_path):
  listed = tmp_path / "run" / "q.jsonl"
  add_to_quarantine(listed, "a.mp4", "a.mp4: is empty.", "m.json:3")
  entry = json.loads(listed.read_text())
  assert entry == dict(media="a.mp4", error="a.mp4: is empty.", origin="m.json:3")


def test_a_sample_is_named_where_its_media_are_sound(tmp_path):
  listed = tmp_path / "q.jsonl"
  for origin in ("m.json:3", "m.json:4", "m.json:3"):
    add_to_quarantine(listed, "", "ends early", origin)
  assert read_quarantine(listed) == {"m.json:3", "m.json:4"}


def test_a_bad_disk_is_no_error(tmp_path):
  listed = tmp_path / "q.jsonl"
  listed.write_text("")
  add_to_quarantine(listed / "below a file", "a.mp4", "x", "m:1")


def test_a_missing_list_names_the_knob(tmp_path):
  with pytest.raises(ValueError, match=r"config\.data\.exclude"):
    read_quarantine(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
  ("message", "medium"), [("b.mp4: is empty.", "b.mp4"), ("a defect", "a.mp4")]
)
def test_the_blamed_medium_is_that_of_the_message(message, medium):
  assert blamed_medium((Scene("a.mp4"), Scene("b.mp4")), message) == medium
