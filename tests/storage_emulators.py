# SPDX-License-Identifier: Apache-2.0
"""Emulators of bucket stores on this machine, for the length of a block."""

from collections.abc import Iterator
import contextlib

from free_ports import free_port
import fsspec
from gcp_storage_emulator import server as server_of_google
from google.cloud import storage
from moto.server import ThreadedMotoServer
import pytest
import s3fs


@contextlib.contextmanager
def google_bucket(name: str) -> Iterator[str]:
  """gs://NAME in an emulator's memory."""
  port = free_port()
  server = server_of_google.create_server("127.0.0.1", port, in_memory=True)
  server.start()
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{port}")
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    storage.Client().create_bucket(name)
    yield f"gs://{name}"
  server.stop()


@contextlib.contextmanager
def amazon_bucket(name: str) -> Iterator[str]:
  """s3://NAME in an emulator's memory."""
  port = free_port()
  server = ThreadedMotoServer("127.0.0.1", port)
  server.start()
  with pytest.MonkeyPatch.context() as patch:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
      patch.setenv(key, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
  server.stop()
