# SPDX-License-Identifier: Apache-2.0
"""Exports a run as a folder for PyTorch, imports it again, and compares the weights.

  python examples/convert_a_folder.py runs/demo/stage2 runs/as_torch runs/back

The folder is what transformers reads as LlavaOnevisionForConditionalGeneration; the scene merger,
which that class does not know, is in fila/ and is used by the run_torch.py beside it. The script
uses the verbs of the command line, because they also write conversion_report.json.
"""

import argparse
import sys

import jax
import numpy as np

import filax
from filax.cli.main import main as run_verb


def convert(*arguments: str) -> None:
  """`filax convert` with these arguments; leaves the program if it fails."""
  code = run_verb(["convert", *arguments])
  if code:
    sys.exit(code)


def differing_parameters(before: str, after: str) -> list[str]:
  """The paths of parameters that differ between two checkpoints.

  The comparison is bit by bit.
  """
  _, old = filax.load(before)
  _, new = filax.load(after)
  differing = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(old):
    other = new
    for key in path:
      other = other[key.key]
    if not np.array_equal(leaf, other):
      differing.append(jax.tree_util.keystr(path, simple=True, separator="/"))
  return differing


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("checkpoint", help="a run folder, or one of its checkpoints")
  parser.add_argument("folder", help="the folder for PyTorch; must not exist")
  parser.add_argument("back", help="the checkpoint made of it; must not exist")
  options = parser.parse_args()
  convert("to", "--checkpoint", options.checkpoint, "--format", "hf", "--out", options.folder)
  convert("from", "--source", options.folder, "--out", options.back)
  differing = differing_parameters(options.checkpoint, options.back)
  if differing:
    sys.exit(f"These parameters changed on the way: {', '.join(differing)}")
  print("Every parameter came back bit by bit.")


if __name__ == "__main__":
  main()
