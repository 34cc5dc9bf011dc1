# SPDX-License-Identifier: Apache-2.0
"""The configs that benchmarks.gpu_compile compiles exist, with the changes made to them."""

import pytest

from benchmarks import gpu_compile
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


def test_an_entry_that_fails_is_named(monkeypatch, capfd):
  broken = gpu_compile.GpuEntry("fila_toy:stage=9")
  monkeypatch.setattr(gpu_compile, "ENTRIES", (broken,))
  monkeypatch.setattr(gpu_compile, "compile_apart", lambda number: f"{number} aborted")
  assert gpu_compile.main(["--only", "stage=9"]) == 1
  assert "0 aborted" in capfd.readouterr().err
  assert gpu_compile.main(["--only", "no such entry"]) == 2
