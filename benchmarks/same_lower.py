# SPDX-License-Identifier: Apache-2.0
"""Runs a `filax` command that lowers programs and never compiles them.

  python benchmarks/same_lower.py FOLDER plan --config configs/fila_stage4.py --topology v5p:4x4x4

Writes the StableHLO of each program to FOLDER/0.mlir, 1.mlir, … and answers every request to
compile with the error of a program that is too large, after which `filax plan` continues with the
next rows. Imports nothing of FiLax, so that it works with any checkout on PYTHONPATH.
"""

import itertools
import pathlib
import runpy
import sys

import jax

TOO_LARGE = "Lowered only: (1.0G) exceeds available HBM (1.0G)"


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  numbers = itertools.count()

  def write_and_refuse(lowered, *_, **__):
    path = folder / f"{next(numbers)}.mlir"
    path.write_text(lowered.as_text())
    raise jax.errors.JaxRuntimeError(TOO_LARGE)

  jax.stages.Lowered.compile = write_and_refuse
  sys.argv = ["filax", *sys.argv[2:]]
  runpy.run_module("filax", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main()
