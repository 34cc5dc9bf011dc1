# SPDX-License-Identifier: Apache-2.0
"""The configs that benchmarks.gpu_compile compiles exist, with the changes made to them."""

import pytest

from benchmarks import gpu_compile, gpu_decode
from filax.train import setup


@pytest.mark.parametrize("entry", gpu_compile.ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_a_config_with_rows(entry):
  settings = gpu_compile.entry_settings(entry)
  setup.check_training_settings(settings)
  for key, value in entry.changes.items():
    node = settings
    for word in key.split("."):
      node = node[word]
    assert node == value


@pytest.mark.parametrize(
  ("program", "argv"), [(gpu_compile, ["--only", "fila_toy"]), (gpu_decode, ["--depth", "1"])]
)
def test_a_missing_compiler_is_named(monkeypatch, capfd, program, argv):
  monkeypatch.setattr(gpu_compile, "has_compiler", lambda: False)
  assert program.main(argv) == 2
  assert "pip install 'filax[gpu]'" in capfd.readouterr().err


def test_a_name_without_entries_lists_them(capfd):
  assert gpu_compile.main(["--only", "no such entry"]) == 2
  assert "fila_toy:stage=1, 1 GPU" in capfd.readouterr().err


def test_an_entry_that_fails_is_named(monkeypatch):
  monkeypatch.setattr(gpu_compile.sys, "executable", "/bin/false")
  failure = gpu_compile.compile_apart(0)
  assert failure.startswith("fila_toy:stage=1, 1 GPU: code 1")
