# SPDX-License-Identifier: Apache-2.0
"""Every command in a document exists, with its options and settings; nothing of it runs."""

import argparse
import contextlib
import importlib
import inspect
import itertools
import pathlib
import re
import sys
import tomllib

from document_blocks import (
  DOCUMENTS,
  FENCE,
  ROOT,
  block_commands,
  blocks,
  line_commands,
  read_document,
)
import pytest

from filax.checkpoint import base
from filax.cli import config_flags
from filax.cli.main import VERBS
from filax.configs.mixtures import parts

SHELL = {"cd", "source", "export", "git", "curl", "pre-commit", "gcloud", "kubectl", "sbatch", "ls"}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = set(
  tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)
SPAN = re.compile(r"`filax ([a-z][^`\n]*)`")
NAME = re.compile(r"[a-z]\w*")
README_COMMANDS = re.findall(r"<!-- run -->\n```bash\n(.*?)```", read_document("README.md"), re.S)


class Parsed(Exception):
  """The options of a command were accepted."""


@pytest.fixture
def parsers_only(monkeypatch):
  """Commands end with Parsed when they have read their options and settings."""

  def stopping(read):
    def read_and_stop(*args, **options):
      read(*args, **options)
      raise Parsed

    return read_and_stop

  parse_args = stopping(argparse.ArgumentParser.parse_args)
  monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
  monkeypatch.setattr(config_flags, "read_config", stopping(config_flags.read_config))
  monkeypatch.setattr(base, "look_in", lambda folder: None)  # Folders of examples do not exist.
  monkeypatch.setattr(parts, "locate", lambda part, root: part.file)
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(sys, "path", [str(ROOT / "examples/extend"), *sys.path])


def check_filax(words):
  """Raises ValueError, or what the command raises, for an option that does not exist."""
  if words and words[0] not in VERBS:
    raise ValueError(f"there is no verb {words[0]!r}")
  if not words or words == ["--help"]:
    return
  module = importlib.import_module(VERBS[words[0]][0])
  try:
    module.main(words[1:])
  except Parsed:
    return
  except SystemExit as error:
    if error.code:
      raise ValueError(f"filax {' '.join(words)} ends with code {error.code}") from None


def check_python(words):
  """A module or a file of the repository, or one that a command of the page writes."""
  if words[0] == "-m":
    module, *rest = words[1:]
    if module == "filax":
      check_filax(rest)
    elif module.startswith("benchmarks"):
      assert importlib.util.find_spec(module), f"there is no module {module}"
  elif words[0] != "-c":
    name = pathlib.PurePath(words[0]).name
    assert (ROOT / words[0]).is_file() or name == "run_torch.py", f"there is no {words[0]}"


def check_script(path, words):
  """A script of launch/ or benchmarks/, its options, and the command that it starts."""
  script = (ROOT / path).read_text()
  before, _, after = " ".join(words).partition(" -- ")
  for option in re.findall(r"--[\w-]+", before.removeprefix("-- ")):
    assert option in script, f"{path} has no option {option}"
  if after:
    check_filax(after.split())


def check_command(words):
  program, *rest = words
  name = pathlib.PurePath(program).name
  if name == "filax":
    check_filax(rest)
  elif name.startswith("python"):
    check_python(rest)
  elif name.endswith(".sh"):
    check_script(program, rest)
  elif name == "make":
    targets = {word for word in rest if "=" not in word and not word.startswith("-")}
    assert targets <= TARGETS, f"the Makefile has no {targets - TARGETS}"
  elif name == "pip":
    extras = set(re.findall(r"filax\[([\w,-]+)\]", " ".join(rest)))
    wanted = {extra for group in extras for extra in group.split(",")}
    assert wanted <= EXTRAS, f"pyproject.toml has no extra {wanted - EXTRAS}"
  else:
    assert name in SHELL or program == ".ci/run", f"{program} is not a program that the tests know"


def problems(commands):
  """A line for every command that is refused."""
  refused = []
  for words in commands:
    try:
      check_command(words)
    except (AssertionError, OSError, TypeError, ValueError) as error:
      refused.append(f"{' '.join(words)}\n    {error}")
  return refused


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_of_a_document_are_accepted(document, parsers_only):
  refused = problems(block_commands(read_document(document)))
  assert not refused, f"{document}:\n" + "\n".join(refused)


def help_of(words, capsys):
  """What a command prints with --help."""
  module = importlib.import_module(VERBS[words[0]][0])
  with contextlib.suppress(SystemExit):
    module.main([*words[1:], "--help"])
  return capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_options_in_sentences_exist(document, capsys):
  """Commands in backticks within a sentence are often cut short: their options are looked up."""
  for command in SPAN.findall(FENCE.sub("", read_document(document))):
    words = command.split()
    assert words[0] in VERBS, f"{document} names filax {command}"
    names = itertools.takewhile(NAME.fullmatch, words)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    shown = help_of(list(names), capsys)
    looked_up = [name for name in options if not re.match(r"--help|--config\.", name)]
    unknown = [name for name in looked_up if name not in shown]
    assert not unknown, f"{document} names filax {command}, which has no {unknown}"


CONFIGS = sorted((ROOT / "configs").glob("[a-z]*_*.py"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_commands_of_a_config_are_accepted(config, parsers_only):
  module = importlib.import_module(f"filax.configs.{config.stem}")
  commands = []
  for paragraph in inspect.getdoc(module).split("\n\n"):
    if paragraph.startswith("  filax "):
      for line in paragraph.replace("\\\n", " ").splitlines():
        line = re.sub(
          r"^filax train \.\.\.", f"filax train --config {config} --workdir runs/x", line.strip()
        )
        commands += line_commands(re.sub(r" \.\.\.$", "", line))
  refused = problems(commands)
  assert not refused, "\n".join(refused)


def test_an_unknown_option_is_refused(parsers_only):
  text = "```bash\nfilax chat --checkpoint a --vidoe b\n```"
  assert "vidoe" in problems(block_commands(text))[0]


def test_an_unknown_setting_is_refused(parsers_only):
  text = "```bash\nfilax show --config configs/fila_stage4.py --config.bacth=3\n```"
  assert "bacth" in problems(block_commands(text))[0]


def test_an_unknown_program_is_refused():
  assert "filxa" in problems([["filxa", "train"]])[0]


def test_commands_of_the_first_page_run():
  """tests/test_readme.py runs those of the README; the first page has no others."""
  run = "\n".join(README_COMMANDS).splitlines()
  page = "\n".join(blocks(read_document("docs/start.md"), "bash")).splitlines()
  others = [line for line in page if line not in run]
  assert others == ["make demo", "source .venv/bin/activate"], "No test runs these commands."


def test_documents_have_many_commands():
  count = sum(len(list(block_commands(read_document(document)))) for document in DOCUMENTS)
  assert count > 100, f"only {count} commands were read from the documents"
