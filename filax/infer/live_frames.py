# SPDX-License-Identifier: Apache-2.0
"""Frames of a live session that wait until their clip is whole."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from data_pipelines.media import pictures


class WaitingFrames:
  """Frames of the encoder's size with their seconds, in order.

  `resize`: as in data_pipelines.media.pictures.fit.
  """

  def __init__(self, size: int, resize: str):
    self._size = size
    self._resize = resize
    self._frames: list[np.ndarray] = []
    self._seconds: list[float] = []
    self.newest = 0.0  # Seconds of the newest frame.

  def __len__(self) -> int:
    return len(self._frames)

  def add_frames(self, frames: np.ndarray, times: Sequence[float] | np.ndarray) -> None:
    """Adds frames uint8 [t h w 3] at their seconds [t].

    Raises ValueError for other arrays, or times that fall; nothing is added then.
    """
    seconds = _checked_times(frames, times)
    if len(seconds) and seconds[0] < self.newest:
      raise ValueError(
        f"A frame at {seconds[0]:.3f} s follows one at {self.newest:.3f} s. Append frames in the "
        "order of time."
      )
    self._frames += [self._fitted(frame) for frame in frames]
    self._seconds += seconds.tolist()
    if len(seconds):
      self.newest = float(seconds[-1])

  def take_frames(self, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first frames and their seconds.

    uint8 [count size size 3] and float64 [count].
    """
    frames = np.stack(self._frames[:count])
    seconds = np.asarray(self._seconds[:count], np.float64)
    del self._frames[:count]
    del self._seconds[:count]
    return frames, seconds

  def _fitted(self, frame: np.ndarray) -> np.ndarray:
    """A frame of any size as the encoder's."""
    if frame.shape[:2] == (self._size, self._size):
      return frame.copy()  # The caller may write over its buffer.
    return pictures.fit(Image.fromarray(frame), self._size, self._resize)


def _checked_times(frames: np.ndarray, times: Sequence[float] | np.ndarray) -> np.ndarray:
  """The times as float64 [t].

  Raises ValueError with one sentence for other arrays.
  """
  if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4:
    raise ValueError("Frames are one array uint8 [t h w 3].")
  if frames.shape[-1] != 3 or 0 in frames.shape[1:]:
    raise ValueError(f"Frames are uint8 [t h w 3], but their shape is {frames.shape}.")
  seconds = np.asarray(times, np.float64)
  if seconds.shape != (len(frames),):
    raise ValueError(f"{len(frames)} frames need as many times, but these are {seconds.shape}.")
  if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any() or (seconds < 0).any():
    raise ValueError("The times of frames are finite seconds from 0 on that never fall.")
  return seconds
