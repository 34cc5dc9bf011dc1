# SPDX-License-Identifier: Apache-2.0
"""Fuzzes one target: PYTHONPATH=.:tests python -m fuzz.worker TARGET SEED SECONDS FOLDER.

The input at work lies in FOLDER as TARGET-SEED<suffix> before it is read; it is there still when
reading it raises, hangs (SIGALRM ends the process) or takes too much memory.
"""

import pathlib
import signal
import sys
import time
import warnings

from fuzz import plan_caches, targets
from fuzz.mutations import mutated
import numpy as np

from filax import processes

TARGETS = dict(
  pictures=targets.Pictures,
  videos=targets.Videos,
  manifests=targets.Manifests,
  caches=targets.Caches,
  plan=plan_caches.PlanCaches,
  encoded=plan_caches.EncodedVideos,
)
HANG_SECONDS = 60.0  # Of one input: its limits are 5 s for opening and for decoding.
MEMORY = 400 << 20  # Bytes that inputs may add: 256 MB for a picture, and FFmpeg's frames.


def main(name: str, seed: int, seconds: float, folder: pathlib.Path):
  warnings.simplefilter("ignore")  # Pillow's, about damaged EXIF data.
  work = folder / f"work-{name}-{seed}"
  work.mkdir(parents=True)
  target = TARGETS[name](work)
  rng = np.random.default_rng(seed)
  path = folder / f"{name}-{seed}{target.suffix}"
  end = time.monotonic() + seconds
  count = 0
  limit = MEMORY
  while time.monotonic() < end:
    data, other = (target.seeds[i] for i in rng.integers(len(target.seeds), size=2))
    data = mutated(data, other, rng)
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    target.run(data, path)
    signal.setitimer(signal.ITIMER_REAL, 0)
    count += 1
    if count == 1:
      limit += processes.peak_memory()  # The first input loads libraries.
    peak = processes.peak_memory()
    assert peak <= limit, f"{path} takes {(peak - limit + MEMORY) >> 20} MB"
  path.unlink(missing_ok=True)
  print(f"{name}: {count} inputs, seed {seed}, nothing found")


if __name__ == "__main__":
  main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), pathlib.Path(sys.argv[4]))
