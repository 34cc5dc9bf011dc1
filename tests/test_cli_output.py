# SPDX-License-Identifier: Apache-2.0
"""Commands end well with a closed output, and in a locale that lacks a character."""

import io
import sys

from filax.cli import errors


def test_a_command_without_an_output_succeeds(monkeypatch):
  monkeypatch.setattr(sys, "stdout", None)
  assert errors.run_verb(lambda _: print("Nobody reads this."), [], "verb") == 0


def test_a_character_that_the_output_lacks_is_escaped(monkeypatch):
  content = io.BytesIO()
  monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
  assert errors.run_verb(lambda _: print("caf\xe9"), [], "verb") == 0
  assert content.getvalue() == b"caf\\xe9\n"


def test_a_full_disk_is_a_sentence(capsys):
  def fill(_):
    with open("/dev/full", "w") as file:
      file.write("x")

  assert errors.run_verb(fill, [], "verb") == 2
  assert (
    "filax verb: What was to be written found no room: No space left" in capsys.readouterr().err
  )
