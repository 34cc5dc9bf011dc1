# SPDX-License-Identifier: Apache-2.0
"""`filax --version` says which version is installed."""

import importlib.metadata

from filax.cli import main


def test_the_version_is_that_of_the_installed_package(capsys, monkeypatch):
  monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")
  assert main.main(["--version"]) == 0
  assert capsys.readouterr().out == "filax 1.2.3 of filax\n"
