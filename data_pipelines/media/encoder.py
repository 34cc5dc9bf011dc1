# SPDX-License-Identifier: Apache-2.0
"""Writes H.264 videos; the project's only encoder."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
import itertools
import os
from typing import BinaryIO

import av
from av.video.reformatter import VideoReformatter
import numpy as np

_LARGEST_DENOMINATOR = 1000  # The largest denominator of a frame rate.


def write_h264(
  target: str | os.PathLike | BinaryIO,
  pictures: Iterable[np.ndarray],
  fps: float,
  options: Mapping[str, str],
  threads: int | None = None,
) -> None:
  """Writes pictures as an mp4 file with an H.264 stream.

  pictures: uint8 [h w 3], one or more, all of the same even size; picture i is shown from second
  i / fps on. target: a path or an open binary file. options: settings of x264 by name (crf, g,
  preset, …). threads: of the encoder; None leaves the number to the codec.
  """
  remaining = iter(pictures)
  first = next(remaining)
  height, width, _ = first.shape
  rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
  converter = VideoReformatter()
  output = os.fspath(target) if isinstance(target, str | os.PathLike) else target
  with av.open(output, "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=rate, options=dict(options))
    stream.width = width
    stream.height = height
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = 1 / rate
    if threads is not None:
      stream.thread_count = threads
    for number, picture in enumerate(itertools.chain([first], remaining)):
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
      frame = converter.reformat(frame, format="yuv420p")
      frame.pts = number
      frame.time_base = 1 / rate
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
