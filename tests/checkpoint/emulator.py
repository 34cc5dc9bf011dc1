# SPDX-License-Identifier: Apache-2.0
"""Runs gcp-storage-emulator with what TensorStore and leases need and it lacks: generations.

An answer names the generation of an object, and a write that expects another one is refused.
"""

from http import HTTPStatus
import http.server
import sys

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

plain_download = objects.download
plain_insert = objects.insert


def generation(storage, bucket: str, name: str) -> str:
  """Of an object; "0" if there is none."""
  try:
    return storage.get_file_obj(bucket, name)["generation"]
  except NotFound:
    return "0"


def object_name(request) -> str:
  """What an upload is to be called: in its address, or in the first part of its body."""
  if "name" in request.query:
    return request.query["name"][0]
  return request.data["meta"].get("name", "") if "multipart" in request.query["uploadType"] else ""


def download(request, response, storage, *args, **kwargs):
  bucket, name = request.params["bucket_name"], request.params["object_id"]
  response["x-goog-generation"] = generation(storage, bucket, name)
  plain_download(request, response, storage, *args, **kwargs)


def insert(request, response, storage, *args, **kwargs):
  expected = request.query.get("ifGenerationMatch")
  name = object_name(request)
  if expected and expected[0] != generation(storage, request.params["bucket_name"], name):
    response.status = HTTPStatus.PRECONDITION_FAILED
    return
  plain_insert(request, response, storage, *args, **kwargs)


if __name__ == "__main__":
  objects.download = download
  objects.insert = insert
  # It answers one request after the other: the others must find room to wait.
  http.server.HTTPServer.request_queue_size = 256
  from gcp_storage_emulator.__main__ import main  # Its table of handlers is made here.

  sys.exit(main(sys.argv[1:]))
