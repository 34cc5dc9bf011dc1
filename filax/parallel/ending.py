# SPDX-License-Identifier: Apache-2.0
"""Ends all processes of a run with the same message.

Without this, the other processes would wait for minutes in a collective operation, and the failed
process in the barrier of jax.distributed at exit. The message goes through the store of
jax.distributed, which a thread of every process reads once a second; no device is needed.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
import traceback
from typing import NoReturn

from filax.parallel import key_value

REFUSED = 2  # Exit code of a run that refuses to continue.
_KEY = "filax/end"
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 8.0  # Process 0 waits so long for the others to read the message.


def end_all(reason: str, code: int = REFUSED) -> NoReturn:
  """Ends every process of the run within seconds; does not return.

  Exit handlers do not run.

  reason: one sentence, which every process prints after the number and host of this process. code:
  the exit code of every process. If two processes end the run at once, all print the sentence of
  the first. May be called from any thread. A run of one process ends in the same way.
  """
  if not key_value.connected():
    _leave(f"filax: {_one_line(reason)}", code)
  index = key_value.index()
  text = f"filax: process {index} ({socket.gethostname()}) ended the run: {_one_line(reason)}"
  ending = json.dumps(dict(text=text, code=code))
  if not key_value.put(_KEY, ending):
    ending = key_value.get(_KEY) or ending
  _leave_together(ending)


def watch() -> None:
  """Starts the thread that ends this process when another one calls `end_all`."""
  stopped = threading.Event()
  thread = threading.Thread(target=_watch, args=(stopped,), name="filax-ending", daemon=True)
  thread.start()

  def stop():
    stopped.set()
    thread.join(2 * _LOOK_SECONDS)

  atexit.register(stop)  # Runs before jax's own handler, which closes the store.


@contextlib.contextmanager
def together():
  """A context whose errors end all processes.

  A run of one process raises them as usual. FILAX_DEBUG=1 prints the traceback first.
  """
  try:
    yield
  except KeyboardInterrupt:
    if key_value.connected():
      end_all("It was stopped by Ctrl-C.", 130)
    raise
  except Exception as error:
    if not key_value.connected():
      raise
    text = str(error)
    is_refusal = isinstance(error, (ValueError, OSError))
    if os.environ.get("FILAX_DEBUG") or not is_refusal:
      traceback.print_exc()
    if not is_refusal or not text:
      text = f"{type(error).__name__}: {text}"
    end_all(text)


def _watch(stopped: threading.Event) -> None:
  while not stopped.wait(_LOOK_SECONDS):
    ending = key_value.get(_KEY)
    if ending is not None:
      _leave_together(ending)


def _leave_together(ending: str) -> NoReturn:
  """Exits with the text that `end_all` stored.

  Process 0 exits last, because it hosts the store.
  """
  message = json.loads(ending)
  index = key_value.index()
  key_value.put(f"{_KEY}/read/{index}", "")
  if index == 0:
    deadline = time.monotonic() + _ANSWER_SECONDS
    waiting = set(range(1, key_value.count()))
    while waiting and time.monotonic() < deadline:
      waiting = set(filter(_has_not_read, waiting))
      time.sleep(0.1)
    time.sleep(0.5)  # Lets the others exit before the store closes.
  _leave(message["text"], message["code"])


def _has_not_read(index: int) -> bool:
  return key_value.get(f"{_KEY}/read/{index}") is None


def _leave(text: str, code: int) -> NoReturn:
  """Prints `text`; ends this process and its workers without exit barriers."""
  print(text, file=sys.stderr, flush=True)
  sys.stdout.flush()
  for worker in multiprocessing.active_children():
    worker.kill()
  os._exit(code)


def _one_line(text: str) -> str:
  return " ".join(text.split())
