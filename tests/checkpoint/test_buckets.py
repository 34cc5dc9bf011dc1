# SPDX-License-Identifier: Apache-2.0
"""Leases in buckets, against emulators of the stores."""

import concurrent.futures
import http
import os
import threading
import time

import pytest
import storage_emulators

from filax.checkpoint import lease, small_file
from filax.checkpoint.lease import Held, Lease, Lost

STALE = 3.0


def compare_generations(patch):
  """Teaches the emulator ifGenerationMatch, which the store has and it ignores."""
  from gcp_storage_emulator.exceptions import NotFound
  from gcp_storage_emulator.handlers import objects

  upload = objects._multipart_upload
  lock = threading.Lock()

  def checked(request, response, storage):
    with lock:
      try:
        name = request.query.get("name", [request.data["meta"].get("name")])[0]
        generation = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
      except NotFound:
        generation = 0
      if int(request.query["ifGenerationMatch"][0]) != int(generation):
        response.status = http.HTTPStatus.PRECONDITION_FAILED
      else:
        upload(request, response, storage)

  patch.setattr(objects, "_multipart_upload", checked)


@pytest.fixture(scope="module")
def google():
  with pytest.MonkeyPatch.context() as patch, storage_emulators.google_bucket("runs") as url:
    compare_generations(patch)
    yield url


@pytest.fixture(scope="module")
def amazon():
  with storage_emulators.amazon_bucket("runs") as url:
    yield url


@pytest.fixture(params=["google", "amazon"])
def bucket(request):
  return request.getfixturevalue(request.param)


def test_a_small_file_changes_only_from_what_was_seen(bucket):
  file = small_file.open_small_file(f"{bucket}/swaps", "x")
  assert file.read_content() is None
  assert not file.swap(b"a", b"b") and not file.swap(b"a", None)
  assert file.swap(None, b"long") and not file.swap(None, b"other")
  assert not file.swap(b"lon", b"b")
  assert file.swap(b"long", b"ab") and file.read_content() == b"ab"
  assert file.swap(b"ab", None) and file.read_content() is None


def test_of_starts_at_once_one_wins(bucket):
  starts = threading.Barrier(8)
  ends = threading.Barrier(8)

  def start():
    starts.wait()
    try:
      with Lease(f"{bucket}/race", STALE, lambda text: None) as held:
        ends.wait(60)
        held.check_held()
      return True
    except Held:
      ends.wait(60)
      return False

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    results = [future.result() for future in [pool.submit(start) for _ in range(8)]]
  assert sum(results) == 1


def test_a_silent_holder_is_followed_and_knows(bucket):
  workdir = f"{bucket}/silent"
  first = Lease(workdir, STALE)
  first._owner = lease.dataclasses.replace(first._owner, boot="another", pid=1)
  first._take()  # And never beats.
  began = time.monotonic()
  with Lease(workdir, STALE, lambda text: None) as second:
    assert time.monotonic() - began >= STALE
    with pytest.raises(Lost, match=f"process {os.getpid()} on host"):
      first.check_held()
    second.check_held()
