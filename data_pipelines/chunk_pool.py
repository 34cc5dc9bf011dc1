# SPDX-License-Identifier: Apache-2.0
"""Processes that compute a function of many chunks, in order.

Unlike those of multiprocessing they import nothing of the program that starts them: scripts need no
guard around their main part, and no lock of the program's threads is copied.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
from typing import Any

from filax import host_limits

MOST_PROCESSES = 32  # Each takes up to 100 MB, and one process feeds all of them.
_SERVE = "from data_pipelines.chunk_pool import serve; serve()"
# A process a core: libraries that start threads of their own would only disturb one another.
_ONE_THREAD = dict(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


class ChunkProcessEnded(OSError):
  """A process of the pool was killed from outside."""


class ChunkPool(contextlib.AbstractContextManager):
  """`map(chunks)` with a function, in `processes` processes.

  The function and its results must be picklable. With one process it runs in this one.
  """

  def __init__(self, function: Callable[[Any], Any], processes: int):
    self._function = function
    self._count = processes
    self._processes: list[subprocess.Popen] = []

  def map(self, chunks: Iterable[Any]) -> Iterator[Any]:
    """Yields the results in the order of the chunks.

    A few chunks are computed ahead of the caller.
    """
    if self._count < 2:
      yield from map(self._function, chunks)
      return
    self._start()
    free: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
    for process in self._processes:
      free.put(process)

    def compute(chunk: Any) -> Any:
      process = free.get()
      try:
        return _ask(process, chunk)
      finally:
        free.put(process)  # Also after an error: a thread without a process would wait forever.

    waiting: deque[Future] = deque()
    threads = ThreadPoolExecutor(self._count)
    try:
      for chunk in chunks:
        waiting.append(threads.submit(compute, chunk))
        if len(waiting) > 2 * self._count:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      self._kill()  # Before the threads are joined: they may wait for an answer.
      threads.shutdown(cancel_futures=True)

  def __exit__(self, *error):
    self._kill()

  def _start(self) -> None:
    paths = [path or os.getcwd() for path in sys.path]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), **_ONE_THREAD)
    function = pickle.dumps(self._function)
    for _ in range(self._count):
      process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
      )
      self._processes.append(process)
      _send(process.stdin, function)

  def _kill(self) -> None:
    for process in self._processes:
      process.kill()
      process.wait()
      for pipe in (process.stdin, process.stdout):
        if pipe is not None:
          with contextlib.suppress(OSError):
            pipe.close()
    self._processes = []


def default_processes() -> int:
  """The CPUs that this process may use, at most MOST_PROCESSES."""
  return min(host_limits.usable_cpus(), MOST_PROCESSES)


def serve() -> None:
  """The main function of a process of the pool."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)  # The program decides when to stop.
  answers = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # What the function prints is not an answer.
  source = sys.stdin.buffer
  function = _receive(source)
  while True:
    try:
      chunk = _receive(source)
    except EOFError:
      return
    try:
      answer = pickle.dumps((True, function(chunk)))
    except Exception as error:
      answer = _pickled_error(error)
    try:
      _send(answers, answer)
    except BrokenPipeError:  # The program was killed: nobody reads.
      os._exit(1)


def _ask(process: subprocess.Popen, chunk: Any) -> Any:
  """The result of a chunk; raises the function's error."""
  try:
    _send(process.stdin, pickle.dumps(chunk))
    is_result, value = _receive(process.stdout)
  except (EOFError, BrokenPipeError) as error:
    raise ChunkProcessEnded(
      "A process that works on the data was ended from outside; out of memory is the usual reason. "
      "Start again, with fewer processes if it happens again."
    ) from error
  if is_result:
    return value
  raise value


def _pickled_error(error: Exception) -> bytes:
  try:
    answer = pickle.dumps((False, error))
    pickle.loads(answer)
  except Exception:  # Some exceptions cannot be made again from their arguments.
    return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
  return answer


def _send(pipe, data: bytes) -> None:
  pipe.write(len(data).to_bytes(8, "big"))
  pipe.write(data)
  pipe.flush()


def _receive(pipe) -> Any:
  """The next object. Raises EOFError at the end."""
  size = int.from_bytes(_exactly(pipe, 8), "big")
  return pickle.loads(_exactly(pipe, size))


def _exactly(pipe, size: int) -> bytes:
  data = pipe.read(size)
  if len(data) < size:
    raise EOFError
  return data
