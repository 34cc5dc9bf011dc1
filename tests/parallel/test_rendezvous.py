# SPDX-License-Identifier: Apache-2.0
"""Processes that wait for each other; threads stand for them."""

from concurrent.futures import ThreadPoolExecutor
import os
import re
import resource
import socket
import time

from free_ports import free_port
import pytest

from filax.parallel import distributed, rendezvous


def outcomes(come, processes, seconds=1.5, host="127.0.0.1"):
  """index -> None, or the indices that it says are missing."""
  port = free_port()

  def outcome(index):
    try:
      return rendezvous.wait_for_all((host, port), processes, index, seconds)
    except rendezvous.Missing as error:
      return error.indices

  with ThreadPoolExecutor(len(come)) as pool:
    return dict(zip(come, pool.map(outcome, come), strict=True))


def test_all_come_in_any_order():
  assert outcomes([3, 1, 2, 0], 4, seconds=20) == dict.fromkeys(range(4))


def test_process_0_may_open_a_connection_to_each():
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (64 + len(os.listdir("/dev/fd")), hard))
  try:
    assert outcomes(range(80), 80, seconds=60) == dict.fromkeys(range(80))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allowed == min(hard, 2 * 80 + 512)
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def has_loopback_of_ipv6():
  try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
  except OSError:
    return False
  return True


@pytest.mark.skipif(not has_loopback_of_ipv6(), reason="IPv6 is switched off")
def test_processes_meet_at_an_address_of_ipv6():
  assert outcomes([1, 0], 2, seconds=20, host="[::1]") == {0: None, 1: None}


def test_an_address_of_ipv6_without_brackets_is_named(monkeypatch):
  monkeypatch.setenv("FILAX_COORDINATOR", "fd00::7:8476")
  with pytest.raises(ValueError, match=r"in brackets: \[fd00::7\]:8476\."):
    distributed.start()


def test_those_who_came_all_know_who_did_not():
  assert outcomes([0, 2], 4) == {0: [1, 3], 2: [1, 3]}
  assert outcomes([1], 2) == {1: [0]}


def test_strangers_are_ignored():
  port = free_port()
  with ThreadPoolExecutor(2) as pool:
    host = pool.submit(rendezvous.wait_for_all, ("127.0.0.1", port), 2, 0, 20)
    deadline = time.monotonic() + 10
    while True:
      try:
        with socket.create_connection(("127.0.0.1", port)) as stranger:
          stranger.sendall(b"GET / HTTP/1.1\n")
        break
      except OSError:  # The host does not listen yet.
        assert time.monotonic() < deadline, "the host never listened"
        time.sleep(0.01)
    pool.submit(rendezvous.wait_for_all, ("127.0.0.1", port), 2, 1, 20).result()
    host.result()


@pytest.mark.parametrize(
  "missing, hosts, text",
  [([1, 3], [], "process 1, 3 did not come"), ([1], ["a", "b"], r"process 1 \(b\) did not come")],
)
def test_hosts_are_named(missing, hosts, text):
  assert re.search(text, distributed._explain(missing, hosts, 5))


@pytest.mark.parametrize("taken, processes", [(0, "1"), (1, "2")])
def test_a_port_in_use_is_named_and_nobody_waited(monkeypatch, taken, processes):
  """The port of FILAX_COORDINATOR, and the one after it."""
  first = free_port()
  port = first + taken
  with socket.create_server(("", port)):
    monkeypatch.setenv("FILAX_COORDINATOR", f"127.0.0.1:{first}")
    monkeypatch.setenv("FILAX_PROCESSES", processes)
    monkeypatch.setenv("FILAX_PROCESS_ID", "0")
    with pytest.raises(ConnectionError, match=rf"port {port} \(.*in use\)") as error:
      distributed.start()
  assert "Waited" not in str(error.value) and "FILAX_COORDINATOR" in str(error.value)


@pytest.mark.parametrize(
  "text, waited",
  [
    ("DEADLINE_EXCEEDED: Barrier timed out. /job:jax_worker/replica:0/task:3", True),
    ("UNAVAILABLE: failed to connect to all addresses", False),
    ("distributed.initialize should only be called once.", False),
  ],
)
def test_an_error_of_jax_says_waited_only_if_jax_waited(text, waited):
  sentence = distributed._join_error(text, [], 300)
  assert text in sentence
  assert ("Waited 300 s" in sentence) == waited


@pytest.mark.parametrize(
  "name, value",
  [
    ("FILAX_START_SECONDS", "abc"),
    ("FILAX_START_SECONDS", "0"),
    ("FILAX_START_SECONDS", "-3"),
    ("FILAX_START_SECONDS", ""),
    ("FILAX_PROCESSES", "two"),
    ("FILAX_PROCESSES", "0"),
    ("FILAX_PROCESSES", "²"),
    ("FILAX_PROCESS_ID", "-1"),
    ("FILAX_PROCESS_ID", "2"),
    ("FILAX_COORDINATOR", "localhost"),
    ("FILAX_COORDINATOR", "localhost:http"),
    ("FILAX_COORDINATOR", ":80"),
    ("FILAX_COORDINATOR", "localhost:70000"),
  ],
)
def test_invalid_variables_are_named(monkeypatch, name, value):
  sound = dict(FILAX_COORDINATOR="localhost:1", FILAX_PROCESSES="2", FILAX_PROCESS_ID="0")
  for key, text in (sound | {name: value}).items():
    monkeypatch.setenv(key, text)
  with pytest.raises(ValueError, match=f"{name}=.* Set it to"):
    distributed.start()
