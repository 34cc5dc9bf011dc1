# SPDX-License-Identifier: Apache-2.0
"""Reads the benchmarks that tests are about, and writes their prompts."""

import os
import pathlib

import numpy as np
import pytest

from filax.evals.kit import Benchmark, Example, ShownMedia, Source
from filax.evals.registry import find_benchmark

NOTHING_SHOWN = ShownMedia(0.0, np.zeros(0))


def examples_of(name: str, folder, **keys) -> list[Example]:
  """The questions of a benchmark; none may be bad."""
  examples, source = examples_and_source(name, folder, **keys)
  assert not source.report.bad
  return examples


def examples_and_source(name: str, folder, **keys) -> tuple[list[Example], Source]:
  """(questions, source) of a benchmark."""
  source = Source(str(folder), **keys)
  return list(find_benchmark(name).read_examples(source)), source


def user_text(name: str, protocol: str, example: Example) -> str:
  """The text of a prompt, behind the video and its newline."""
  prompt = find_benchmark(name).protocols[protocol].prompt(example, NOTHING_SHOWN)
  (turn,) = prompt.turns
  assert turn.role == "user" and turn.parts[0] == 0 and not prompt.answer_start
  text = turn.text
  assert text.startswith("\n")
  return text[1:]


def score_of(name: str, protocol: str, example: Example, text: str):
  """The verdict of a protocol on a generated text."""
  return find_benchmark(name).protocols[protocol].metric.score(text, example)


def right_letters(examples) -> list[str]:
  return [example.answer for example in examples]


def paths(examples, folder) -> list[str]:
  """The media of questions, relative to a folder."""
  return [os.path.relpath(example.media[0][0].media, folder) for example in examples]


def real_annotations(name: str) -> pathlib.Path:
  """A folder of real annotations; skips the test without it."""
  folder = pathlib.Path(os.environ.get("FILAX_TEST_DATA") or "nothing") / "annotations" / name
  if not folder.is_dir():
    pytest.skip("FILAX_TEST_DATA names no folder with these annotations")
  return folder


def default_protocol(benchmark: Benchmark) -> str:
  """The protocol of model families without one of their own."""
  return next(iter(benchmark.protocols))
