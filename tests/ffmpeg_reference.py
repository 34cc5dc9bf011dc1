# SPDX-License-Identifier: Apache-2.0
"""What the ffmpeg command shows of a video, as the reference for ours."""

import re
import shutil
import subprocess

import numpy as np
import pytest


def shown(path: str, side: int) -> tuple[np.ndarray, np.ndarray]:
  """Frames uint8 [n side side 3] and their seconds f64 [n] since the first one.

  Skips the test where there is no ffmpeg.
  """
  if shutil.which("ffmpeg") is None:
    print("skipped: there is no ffmpeg command to compare with")
    pytest.skip("there is no ffmpeg command to compare with")
  command = [
    "ffmpeg",
    "-nostdin",
    "-i",
    path,
    "-fps_mode",
    "passthrough",
    "-vf",
    "showinfo",
    "-pix_fmt",
    "rgb24",
    "-f",
    "rawvideo",
    "pipe:1",
  ]
  done = subprocess.run(command, capture_output=True, check=True, timeout=60)
  frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, side, side, 3)
  seconds = re.findall(r"pts_time:\s*(\S+)", done.stderr.decode(errors="replace"))
  seconds = np.array(seconds, np.float64)
  return frames, seconds - seconds[0]
