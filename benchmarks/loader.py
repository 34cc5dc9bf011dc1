# SPDX-License-Identifier: Apache-2.0
"""Frames a second from video files, beside decord, OpenCV, PyAV and torchcodec.

  python -m benchmarks.loader [--heights 320,720,1080] [--gops 12,250] [--threads 1,2,4] [--json F]

Every side reads the same requests (64 uniform frames, or one a second, as RGB of 384 x 384) with as
many readers as threads, each reader on one thread. Sides run in turn, each in a process of its own;
the first round warms up and is not counted. Ratios are of CPU seconds for one thread, which other
work on the machine hardly disturbs, and of wall seconds for more.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import importlib.util
import itertools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

SIZE = 384  # Side of a frame that is read.
UNIFORM = 64  # Frames of a request of uniform sampling.
RATE = 30  # Frames a second of the clips.
SAMPLINGS = ("uniform", "1fps")
SIDES = ("filax", "decord", "opencv", "pyav", "torchcodec")
MODULES = dict(decord="decord", opencv="cv2", torchcodec="torchcodec")
PACKAGES = dict(decord="decord", opencv="opencv-python-headless", torchcodec="torchcodec")
Reader = Callable[[str, np.ndarray], int]  # (path, frame numbers) -> frames that were read.


def clip(height: int, gop: int, seconds: int) -> str:
  """The path of an H.264 clip of moving shapes on a texture, made once."""
  folder = pathlib.Path(os.environ.get("FILAX_BENCH_CLIPS", tempfile.gettempdir()))
  path = folder / f"filax-loader-{height}p-gop{gop}-{seconds}s.mp4"
  if not path.exists():
    from data_pipelines.media.encoder import write_h264
    from filax import files

    options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
    options |= {"preset": "veryfast", "crf": "26"}
    with files.write_atomically(path) as file:
      write_h264(file, _pictures(height, seconds * RATE), RATE, options)
  return str(path)


def _pictures(height: int, count: int) -> Iterator[np.ndarray]:
  """A camera that moves over a texture, with grain, uint8 [height width 3]."""
  rng = np.random.default_rng(0)
  width = height * 16 // 9 // 2 * 2
  coarse = rng.integers(0, 256, (height // 8 + 32, width // 8 + 32, 3), np.uint8)
  texture = coarse.repeat(12, 0).repeat(12, 1)
  grain = rng.integers(0, 12, (8, height, width, 1), np.uint8)
  for number in range(count):
    down = round(60 + 50 * np.sin(number / 37))
    right = round(60 + 50 * np.cos(number / 23))
    window = texture[down : down + height, right : right + width]
    yield window // 2 + 40 + grain[number % 8]


def wanted_frames(count: int, sampling: str) -> np.ndarray:
  """The numbers of the frames of a request, int64 [n]."""
  if sampling == "1fps":
    return np.arange(0, count, RATE)
  return np.linspace(0, count - 1, UNIFORM).round().astype(np.int64)


def filax_reader() -> Reader:
  """The project's reader."""
  from data_pipelines.media.frames import read_frames

  def read(path: str, numbers: np.ndarray) -> int:
    frames, _ = read_frames(path, (numbers + 0.5) / RATE, SIZE)
    return len(frames)

  return read


def decord_reader() -> Reader:
  """decord, which resizes while it decodes."""
  import decord

  def read(path: str, numbers: np.ndarray) -> int:
    video = decord.VideoReader(path, width=SIZE, height=SIZE, num_threads=1)
    return len(video.get_batch(numbers).asnumpy())

  return read


def opencv_reader() -> Reader:
  """OpenCV, which decodes every frame and converts the wanted ones."""
  import cv2

  cv2.setNumThreads(1)

  def read(path: str, numbers: np.ndarray) -> int:
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    wanted = set(numbers.tolist())
    for number in range(max(wanted) + 1):
      capture.grab()
      if number in wanted:
        _, picture = capture.retrieve()
        small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        frames.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    capture.release()
    return len(np.stack(frames))

  return read


def pyav_reader() -> Reader:
  """PyAV, which decodes every frame and converts the wanted ones."""
  import av

  def read(path: str, numbers: np.ndarray) -> int:
    frames = []
    wanted = set(numbers.tolist())
    with av.open(path) as container:
      stream = container.streams.video[0]
      stream.thread_type = "NONE"
      for number, frame in enumerate(itertools.islice(container.decode(stream), max(wanted) + 1)):
        if number in wanted:
          small = frame.reformat(SIZE, SIZE, "rgb24", interpolation="BICUBIC", threads=1)
          frames.append(small.to_ndarray())
    return len(np.stack(frames))

  return read


def torchcodec_reader() -> Reader:
  """torchcodec, exact seeks; its frames are resized by torch."""
  import torch
  from torchcodec.decoders import VideoDecoder

  torch.set_num_threads(1)

  def read(path: str, numbers: np.ndarray) -> int:
    decoder = VideoDecoder(path, num_ffmpeg_threads=1)
    small = []
    for number in numbers.tolist():
      frame = decoder.get_frame_at(number).data[None]
      size = (SIZE, SIZE)
      small.append(torch.nn.functional.interpolate(frame, size, mode="bicubic", antialias=True)[0])
    return len(torch.stack(small))

  return read


READERS: dict[str, Callable[[], Reader]] = dict(
  filax=filax_reader,
  decord=decord_reader,
  opencv=opencv_reader,
  pyav=pyav_reader,
  torchcodec=torchcodec_reader,
)


def prepare(
  side: str, height: int, gop: int, sampling: str, threads: int, seconds: int = 30
) -> Callable[[], dict[str, float]]:
  """A function that reads a request on every thread: seconds and frames ("amount")."""
  from concurrent.futures import ThreadPoolExecutor

  read = READERS[side]()
  path = clip(height, gop, seconds)
  numbers = wanted_frames(seconds * RATE, sampling)
  pool = ThreadPoolExecutor(threads)

  def run() -> dict[str, float]:
    began = time.perf_counter()
    requests = [pool.submit(read, path, numbers) for _ in range(threads)]
    frames = sum(request.result() for request in requests)
    return dict(seconds=time.perf_counter() - began, amount=frames)

  return run


def cases(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """The shapes of a run."""
  for height, gop, sampling, threads in itertools.product(
    arguments.heights, arguments.gops, arguments.samplings, arguments.threads
  ):
    yield dict(
      height=height, gop=gop, sampling=sampling, threads=threads, seconds=arguments.seconds
    )


def rows(arguments: argparse.Namespace) -> Iterable[dict[str, Any]]:
  """A record of every case: the medians of all installed sides, and ratios to the best peer."""
  for shape in cases(arguments):
    clip(shape["height"], shape["gop"], shape["seconds"])
    yield _measured(shape, arguments.rounds)


def _measured(shape: Mapping[str, Any], rounds: int) -> dict[str, Any]:
  record: dict[str, Any] = dict(shape, skipped={}, sides={})
  with contextlib.ExitStack() as stack:
    workers = {}
    for side in SIDES:
      module = MODULES.get(side)
      if module and importlib.util.find_spec(module) is None:
        record["skipped"][side] = f"not installed: pip install {PACKAGES[side]}"
        continue
      workers[side] = stack.enter_context(_worker(side, shape))
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in workers}
    for number in range(rounds + 1):
      for side, worker in workers.items():
        answer = _ask(worker)
        if number:
          samples[side].append(answer)
  for side, answers in samples.items():
    record["sides"][side] = _summary(answers)
  return record


def _summary(answers: list[dict[str, float]]) -> dict[str, float]:
  """Medians of a side, and the spread of its CPU seconds."""
  cpu = [answer["cpu"] for answer in answers]
  frames = answers[0]["amount"]
  wall = statistics.median(answer["seconds"] for answer in answers)
  return dict(
    frames_a_cpu_second=round(frames / statistics.median(cpu), 1),
    frames_a_second=round(frames / wall, 1),
    cpu_spread=round(max(cpu) / min(cpu), 2),
  )


@contextlib.contextmanager
def _worker(side: str, shape: Mapping[str, Any]) -> Iterator[subprocess.Popen]:
  """A process that reads a request for every line that it gets."""
  command = [sys.executable, "-m", "benchmarks.loader", "--serve", side, json.dumps(shape)]
  process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def _ask(worker: subprocess.Popen) -> dict[str, float]:
  assert worker.stdin is not None and worker.stdout is not None
  worker.stdin.write("\n")
  worker.stdin.flush()
  answer = worker.stdout.readline()
  if not answer:
    raise RuntimeError(f"{worker.args} ended; its last words are above.")
  return json.loads(answer)


def serve(side: str, shape: Mapping[str, Any]) -> None:
  """Reads a request for every line of stdin, and answers with its figures."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # What libraries print is no answer.
  run = prepare(side, **shape)
  for _ in sys.stdin:
    before = _cpu_seconds()
    figures = run()
    print(json.dumps(dict(figures, cpu=_cpu_seconds() - before)), file=answers, flush=True)


def _cpu_seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def line_of(record: Mapping[str, Any]) -> str:
  """A record as a row of a Markdown table."""
  figure = "frames_a_cpu_second" if record["threads"] == 1 else "frames_a_second"
  sides = record["sides"]
  cells = [f"{record['height']}p", record["gop"], record["sampling"], record["threads"]]
  for side in SIDES:
    cells.append(sides[side][figure] if side in sides else "-")
  if "decord" in sides:
    cells.append(f"{sides['filax'][figure] / sides['decord'][figure]:.2f}")
  return "| " + " | ".join(map(str, cells)) + " |"


def _numbers(text: str) -> list[int]:
  return [int(word) for word in text.split(",")]


def main() -> None:
  """Prints a table of all cases."""
  if sys.argv[1:2] == ["--serve"]:
    serve(sys.argv[2], json.loads(sys.argv[3]))
    return
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--heights", type=_numbers, default=[320, 720, 1080])
  add("--gops", type=_numbers, default=[12, 250])
  add("--samplings", type=lambda text: text.split(","), default=list(SAMPLINGS))
  add("--threads", type=_numbers, default=[1, 2, 4])
  add("--seconds", type=int, default=30, help="of a clip [30]")
  add("--rounds", type=int, default=5)
  add("--json", default="", help="file for all records, a line each")
  arguments = parser.parse_args()
  print(f"| height | GOP | sampling | threads | {' | '.join(SIDES)} | filax : decord |", flush=True)
  print("|---" * (len(SIDES) + 5) + "|", flush=True)
  with contextlib.ExitStack() as stack:
    file = stack.enter_context(open(arguments.json, "a")) if arguments.json else None
    for record in rows(arguments):
      print(line_of(record), flush=True)
      if file:
        print(json.dumps(record), file=file, flush=True)


if __name__ == "__main__":
  main()
