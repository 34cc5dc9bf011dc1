# SPDX-License-Identifier: Apache-2.0
"""Frames a second from video files; readers and clips are those of benchmarks/loader.py."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side


def _reader(side: str):
  """The preparation of a reader, by the name of its function."""

  def prepare_reader(height: int, gop: int, sampling: str, threads: int) -> Repetition:
    from concurrent.futures import ThreadPoolExecutor
    import time

    from benchmarks import loader

    seconds = 20
    path = loader.clip(height, gop, seconds)
    numbers = loader.wanted_frames(seconds * loader.RATE, sampling)
    read = getattr(loader, f"{side}_reader")()

    def read_files():
      start = time.perf_counter()
      with ThreadPoolExecutor(threads) as pool:
        counts = list(pool.map(lambda _: read(path, numbers), range(threads)))
      return dict(seconds=time.perf_counter() - start, amount=sum(counts))

    return read_files

  return prepare_reader


def _shape(height: int, gop: int, sampling: str, threads: int = 1) -> dict:
  return dict(height=height, gop=gop, sampling=sampling, threads=threads)


ROWS = (
  BenchmarkRow(
    "loader",
    "frames of 384 x 384 from an H.264 file",
    "frames/s",
    (
      Side(OURS, _reader("filax")),
      Side("decord", _reader("decord"), (("decord", "decord"),)),
      Side("OpenCV", _reader("opencv"), (("cv2", "opencv-python-headless"),)),
      Side("PyAV sequential", _reader("pyav")),
      Side("torchcodec", _reader("torchcodec"), (("torchcodec", "torchcodec"),)),
    ),
    shapes=(_shape(720, 250, "uniform"), _shape(320, 12, "1fps")),
    full=(
      _shape(320, 250, "uniform"),
      _shape(720, 12, "uniform"),
      _shape(720, 250, "1fps"),
      _shape(1080, 250, "uniform"),
      _shape(1080, 12, "1fps"),
      _shape(720, 250, "uniform", threads=2),
      _shape(720, 250, "uniform", threads=4),
    ),
  ),
)
