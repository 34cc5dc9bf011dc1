# SPDX-License-Identifier: Apache-2.0
"""Waiting for a batch ends for a signal, whenever the signal comes."""

import contextlib
import signal
import threading
import time

from filax.train.fetch import Fetcher


def test_a_signal_just_before_a_timeout_ends_the_waiting():
  """The handler outlasts the first timeout of a millisecond."""
  released = threading.Event()
  received = []

  def batches():
    released.wait()
    yield {}

  def handler(*_):
    time.sleep(0.05)
    received.append(True)

  before = signal.signal(signal.SIGALRM, handler)
  rescue = threading.Timer(10.0, released.set)  # A fault fails the test and does not hang it.
  rescue.start()
  try:
    with Fetcher(contextlib.nullcontext(batches())) as fetcher:
      signal.setitimer(signal.ITIMER_REAL, 0.0005)
      batch = fetcher.fetch(lambda: bool(received))
      released.set()
  finally:
    rescue.cancel()
    signal.signal(signal.SIGALRM, before)
  assert received and batch is None
