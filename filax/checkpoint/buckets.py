# SPDX-License-Identifier: Apache-2.0
"""Small files in buckets, changed by compare-and-swap.

Google Cloud Storage compares generations, S3 compares ETags. The clients come with gcsfs and s3fs.
"""

import fsspec


class GoogleObject:
  """A small_file.SmallFile at gs://bucket/name."""

  def __init__(self, url: str):
    from google.auth import exceptions
    from google.cloud import storage

    bucket, _, name = url.removeprefix("gs://").partition("/")
    try:
      self._bucket = storage.Client().bucket(bucket)
    except exceptions.GoogleAuthError as error:
      raise PermissionError(f"{url} needs credentials: {error}") from error
    self._name = name
    self._url = url

  def read_content(self) -> bytes | None:
    content, _ = self._read_version()
    return content

  def swap(self, before: bytes | None, after: bytes | None) -> bool:
    from google.api_core import exceptions

    content, generation = self._read_version()
    if content != before:
      return False
    blob = self._bucket.blob(self._name)
    try:
      if after is not None:
        blob.upload_from_string(after, if_generation_match=generation)
      elif before is not None:
        blob.delete(if_generation_match=generation)
      return True
    except (exceptions.PreconditionFailed, exceptions.NotFound):
      # A request that was sent twice meets the result of its first try.
      return self.read_content() == after
    except exceptions.GoogleAPIError as error:
      raise OSError(f"{self._url} could not be written: {error}") from error

  def _read_version(self) -> tuple[bytes | None, int]:
    """(content, generation); (None, 0) if there is no object."""
    from google.api_core import exceptions

    try:
      while True:
        blob = self._bucket.get_blob(self._name)
        if blob is None:
          return None, 0
        generation = int(blob.generation)  # A download may reset it.
        try:
          return blob.download_as_bytes(if_generation_match=generation), generation
        except (exceptions.PreconditionFailed, exceptions.NotFound):
          continue  # It changed in between.
    except exceptions.GoogleAPIError as error:
      raise OSError(f"{self._url} could not be read: {error}") from error


class S3Object:
  """A small_file.SmallFile at s3://bucket/name."""

  def __init__(self, url: str):
    self._files = fsspec.filesystem("s3")
    self._bucket, _, self._name = url.removeprefix("s3://").partition("/")
    self._path = f"{self._bucket}/{self._name}"

  def read_content(self) -> bytes | None:
    content, _ = self._read_version()
    return content

  def swap(self, before: bytes | None, after: bytes | None) -> bool:
    content, version = self._read_version()
    if content != before:
      return False
    location = dict(Bucket=self._bucket, Key=self._name)
    try:
      if after is None:
        if before is not None:
          # Few stores compare versions on deletion. Only the holder deletes, after a check.
          self._files.call_s3("delete_object", **location)
      elif version is None:
        self._files.call_s3("put_object", Body=after, IfNoneMatch="*", **location)
      else:
        self._files.call_s3("put_object", Body=after, IfMatch=version, **location)
      return True
    except OSError:
      content = self.read_content()
      if content == after:
        return True
      if content != before:
        return False
      raise

  def _read_version(self) -> tuple[bytes | None, str | None]:
    """(content, ETag); (None, None) if there is no object."""
    location = dict(Bucket=self._bucket, Key=self._name)
    try:
      while True:
        tag_before = self._files.call_s3("head_object", **location)["ETag"]
        content = self._files.cat_file(self._path)
        tag_after = self._files.call_s3("head_object", **location)["ETag"]
        if tag_after == tag_before:
          return content, tag_before
    except FileNotFoundError:
      return None, None
