# SPDX-License-Identifier: Apache-2.0
"""Damaged pictures, videos, manifests and caches never end a run.

Four seconds a target, always the same seed. `make fuzz MINUTES=30` looks longer, from a random
seed, and leaves inputs that fail below runs/fuzz/. FILAX_FUZZ_SEED=N repeats a run.
"""

import os
import pathlib
import secrets
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
TARGETS = ("pictures", "videos", "manifests", "caches", "plan", "encoded")
MINUTES = float(os.environ.get("FILAX_FUZZ_MINUTES", 0))
SECONDS = MINUTES * 60 / len(TARGETS) or 4.0


def seed() -> int:
  given = os.environ.get("FILAX_FUZZ_SEED")
  if given:
    return int(given)
  return secrets.randbelow(1 << 31) if MINUTES else 0


@pytest.mark.parametrize("target", TARGETS)
def test_damage_is_reported(target, tmp_path):
  number = seed()
  folder = ROOT / "runs" / "fuzz" if MINUTES else tmp_path
  folder.mkdir(parents=True, exist_ok=True)
  work = folder / f"work-{target}-{number}"
  shutil.rmtree(work, ignore_errors=True)
  print(f"fuzz {target}: {SECONDS:.0f} s, FILAX_FUZZ_SEED={number}", flush=True)
  own = {
    "JAX_PLATFORMS": "cpu",
    "PYTHONHASHSEED": "0",  # `hash` of bytes decides which file is damaged.
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
  }
  try:
    done = subprocess.run(
      [sys.executable, "-m", "fuzz.worker", target, str(number), str(SECONDS), str(folder)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      errors="replace",
      timeout=SECONDS + 300,
      env=os.environ | own,
    )
  finally:
    shutil.rmtree(work, ignore_errors=True)
  print(done.stdout)
  assert done.returncode == 0, (
    f"Reading {folder}/{target}-{number}.* ended with {done.returncode}. Repeat it with "
    f"FILAX_FUZZ_SEED={number}.\n{done.stdout[-6000:]}"
  )
