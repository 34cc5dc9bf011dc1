# SPDX-License-Identifier: Apache-2.0
"""The help of every command as one page."""

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import importlib
import io
import os
import pathlib
import sys
from unittest import mock

from docs.generators.page_files import update_page
from filax.cli.main import VERBS

WIDTH = "96"  # Columns of the help, so that a page does not scroll sideways.


def write_command_page(path: pathlib.Path) -> None:
  """Writes the page of commands."""
  update_page(path, command_lines())


def command_lines() -> Iterator[str]:
  """The page, line by line."""
  yield "# Commands"
  yield ""
  yield "This page shows the `--help` of every command. If you make a mistake, a command prints one"
  yield "sentence and ends with exit code 2. `FILAX_DEBUG=1` shows the traceback as well."
  for verb, (_, summary) in VERBS.items():
    yield from ("", f"## filax {verb}", "", f"{summary[:1].upper()}{summary[1:]}.", "")
    text, commands = help_of([verb])
    yield from fenced(text)
    for command in commands:
      yield from ("", f"### filax {verb} {command}", "")
      text, _ = help_of([verb, command])
      yield from fenced(text)


def fenced(text: str) -> Iterator[str]:
  """A block of plain text."""
  yield from ("```text", text.strip(), "```")


def help_of(words: Sequence[str]) -> tuple[str, list[str]]:
  """(what `filax WORDS --help` prints, the names of its commands)."""
  module = importlib.import_module(VERBS[words[0]][0])
  commands = list(getattr(module, "COMMANDS", ()))
  print_help = argparse.ArgumentParser.print_help

  def note_commands(parser, file=None):
    commands.extend(sub_commands(parser))
    print_help(parser, file)

  output = io.StringIO()
  with (
    mock.patch.dict(os.environ, COLUMNS=WIDTH),
    mock.patch.object(argparse.ArgumentParser, "print_help", note_commands),
    mock.patch.object(sys, "argv", ["filax"]),
    contextlib.redirect_stdout(output),
    contextlib.suppress(SystemExit),
  ):
    module.main([*words[1:], "--help"])
  return output.getvalue(), list(dict.fromkeys(commands))


def sub_commands(parser: argparse.ArgumentParser) -> list[str]:
  """The names of the commands below a parser."""
  names: list[str] = []
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      names.extend(action.choices)
  return names
