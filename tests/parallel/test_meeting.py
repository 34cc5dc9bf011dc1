# SPDX-License-Identifier: Apache-2.0
"""Processes that wait for each other; threads stand for them."""

from concurrent.futures import ThreadPoolExecutor
import re
import socket

import pytest

from filax.parallel import distributed, meeting


def free_port():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


def outcomes(come, processes, seconds=1.5):
  """index -> None, or the indices that it says are missing."""
  port = free_port()

  def one(index):
    try:
      return meeting.meet(("127.0.0.1", port), processes, index, seconds)
    except meeting.Missing as error:
      return error.indices

  with ThreadPoolExecutor(len(come)) as pool:
    return dict(zip(come, pool.map(one, come), strict=True))


def test_all_come_in_any_order():
  assert outcomes([3, 1, 2, 0], 4, seconds=20) == dict.fromkeys(range(4))


def test_those_who_came_all_know_who_did_not():
  assert outcomes([0, 2], 4) == {0: [1, 3], 2: [1, 3]}
  assert outcomes([1], 2) == {1: [0]}


def test_strangers_are_ignored():
  port = free_port()
  with ThreadPoolExecutor(2) as pool:
    host = pool.submit(meeting.meet, ("127.0.0.1", port), 2, 0, 20)
    for _ in range(100):
      try:
        with socket.create_connection(("127.0.0.1", port)) as stranger:
          stranger.sendall(b"GET / HTTP/1.1\n")
        break
      except OSError:
        continue
    pool.submit(meeting.meet, ("127.0.0.1", port), 2, 1, 20).result()
    host.result()


@pytest.mark.parametrize("missing, hosts, text", [
  ([1, 3], [], "process 1, 3 did not come"), ([1], ["a", "b"], r"process 1 \(b\) did not come")])
def test_hosts_are_named(missing, hosts, text):
  assert re.search(text, distributed._explain(missing, hosts, 5))
