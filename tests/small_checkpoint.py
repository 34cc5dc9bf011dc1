# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.tiny_checkpoint."""

# ruff: noqa: F401
from filax.testing import tiny_checkpoint
from filax.testing.tiny_checkpoint import TEXTS
from filax.testing.tiny_checkpoint import tiny_config as config
from filax.testing.tiny_checkpoint import tiny_parameters as parameters


def write(folder, seed: int = 0, made=None, **changes) -> str:
  return tiny_checkpoint.write_checkpoint(folder, seed, made, **changes)
