# SPDX-License-Identifier: Apache-2.0
"""The list of bad media: each once, whatever happens to the file."""

import json

import pytest

from data_pipelines.manifest.quarantine import add_to_quarantine, blamed_medium, read_quarantine
from data_pipelines.sample import Scene


def test_a_torn_line_names_nothing_and_spoils_no_other(tmp_path):
  listed = tmp_path / "q.jsonl"
  listed.write_text('{"media": "a.mp4", "error": "x", "origin": "m:1"}\n{"media": "b.m')
  for media in ("a.mp4", "b.mp4", "b.mp4"):
    add_to_quarantine(listed, media, "x", "m:2")
  assert read_quarantine(listed) == {"a.mp4", "b.mp4"}
  assert len(listed.read_text().splitlines()) == 3


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
