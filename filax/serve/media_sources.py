# SPDX-License-Identifier: Apache-2.0
"""Where media come from: data URLs, uploaded files, allowed URLs, one local folder."""

import base64
import binascii
import contextlib
import io
import os
import stat
import urllib.parse

from filax.serve.chat_body import MediaReference
from filax.serve.remote_media import RemoteMedia
from filax.serve.requests import Medium, RequestError
from filax.serve.uploads import REQUEST, StoredFile, UploadStore

_UPLOADED = "file-"


class MediaSources:
  """Finds the files behind the references of requests.

  folder: local files below it may be named by file:// URLs; "" refuses them.
  """

  def __init__(self, uploads: UploadStore, remote: RemoteMedia, folder: str = ""):
    self._uploads = uploads
    self._remote = remote
    self._folder = os.path.realpath(folder) if folder else ""

  def find_medium(self, reference: MediaReference, stack: contextlib.ExitStack) -> Medium:
    """The medium of a reference.

    Its temporary files live as long as `stack`. Raises RequestError.
    """
    paths = tuple(self._path(url, stack) for url in reference.urls)
    return Medium(
      reference.kind,
      paths,
      reference.frame_settings,
      reference.label,
      is_lasting=all(url[:5].lower() == "file:" for url in reference.urls),
    )

  def _path(self, url: str, stack: contextlib.ExitStack) -> str:
    scheme = url.partition(":")[0].lower()
    if url.startswith(_UPLOADED):
      stored = self._uploads.find_upload(url)
      stack.enter_context(self._uploads.in_use(stored))
      return str(stored.path)
    if scheme == "data":
      content = io.BytesIO(data_content(url))
      return self._temporary(self._uploads.add_file(content, "data", REQUEST), stack)
    if scheme == "file":
      return self._local_path(url)
    if scheme in ("http", "https"):
      with contextlib.closing(self._remote.fetch(url)) as file:
        return self._temporary(self._uploads.add_file(file, "url", REQUEST), stack)
    raise RequestError(
      "A medium is a data, http, https or file URL, or the id of an uploaded file.",
      code="invalid_url",
    )

  def _temporary(self, stored: StoredFile, stack: contextlib.ExitStack) -> str:
    """The path of a file that goes with the request."""
    stack.callback(self._uploads.discard, stored.id)  # Its life time may have ended meanwhile.
    stack.enter_context(self._uploads.in_use(stored))
    return str(stored.path)

  def _local_path(self, url: str) -> str:
    """A file below the folder; links must not lead out of it."""
    if not self._folder:
      raise RequestError(
        "This server reads no local files. Upload the file; the server's owner can name a folder "
        "(--media-folder).",
        status=403,
        code="local_files_off",
      )
    refused = RequestError("There is no such file.", status=404, code="file_not_found")
    parts = urllib.parse.urlsplit(url)
    name = urllib.parse.unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
      raise refused
    if "\0" in name or "#" in name:  # "#" names a part of a file.
      raise refused
    path = os.path.realpath(name)
    if os.path.commonpath([path, self._folder]) != self._folder:
      raise refused
    try:
      is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
      is_file = False
    if not is_file:
      raise refused
    return path


def data_content(url: str) -> bytes:
  """The bytes of a data URL. Raises RequestError."""
  head, comma, data = url.partition(",")
  if not comma or not head.lower().endswith(";base64"):
    raise RequestError("A data URL must hold base64.", code="invalid_url")
  try:
    content = base64.b64decode(data, validate=True)
  except (binascii.Error, ValueError) as error:
    raise RequestError("A data URL holds damaged base64.", code="invalid_url") from error
  if not content:
    raise RequestError("A data URL is empty.", code="invalid_url")
  return content
