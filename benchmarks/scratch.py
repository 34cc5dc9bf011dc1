# SPDX-License-Identifier: Apache-2.0
"""Files that the rows read: made once, in a folder of the system's temporary files."""

import os
import pathlib
import shutil
import tempfile

CASE_FOLDER = "FILAX_BENCH_CASE"  # Environment: a folder that is removed after the case.


def scratch_folder() -> pathlib.Path:
  """The folder of made files; FILAX_BENCH_SCRATCH sets another place."""
  parent = os.environ.get("FILAX_BENCH_SCRATCH") or tempfile.gettempdir()
  folder = pathlib.Path(parent, f"filax-benchmarks-{os.getuid()}")
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  return folder


def empty_folder(name: str) -> pathlib.Path:
  """A new, empty folder of that name for this process.

  It is in the folder of the case, which the harness removes.
  """
  parent = pathlib.Path(os.environ.get(CASE_FOLDER) or scratch_folder())
  folder = parent / f"{name}-{os.getpid()}"
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  return folder


def moving_video(frames: int, fps: int = 10, height: int = 180, width: int = 320) -> str:
  """The path of an H.264 file of a moving texture."""
  import numpy as np

  from data_pipelines.media.encoder import write_h264
  from filax import files

  path = scratch_folder() / f"{frames}-{height}p.mp4"
  if path.exists():
    return str(path)
  rng = np.random.default_rng(0)
  texture = rng.integers(0, 256, (height // 4, width // 2, 3), np.uint8)
  texture = texture.repeat(4, 0).repeat(4, 1)
  pictures = (np.ascontiguousarray(texture[:, 3 * t % width :][:, :width]) for t in range(frames))
  with files.write_atomically(path) as file:
    write_h264(file, pictures, fps, {"g": "50"})
  return str(path)
