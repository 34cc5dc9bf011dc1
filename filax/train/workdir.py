# SPDX-License-Identifier: Apache-2.0
"""The local side of a workdir that is a bucket.

Files that are written line by line are kept on this machine and copied to the bucket as a whole.
"""

import hashlib
import pathlib

from etils import epath

from filax.files import is_bucket


def local_folder(workdir: epath.PathLike) -> pathlib.Path:
  """The local folder of a workdir; it is created.

  The workdir itself; for gs:// or s3://, a folder of its own below ~/.cache/filax.
  """
  path = pathlib.Path(str(workdir))
  if is_bucket(workdir):
    url = str(workdir).rstrip("/")
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = pathlib.Path("~/.cache/filax").expanduser() / name
  path.mkdir(parents=True, exist_ok=True)
  return path


def fetch_file(workdir: epath.PathLike, name: str) -> pathlib.Path:
  """The local path of a file of the workdir.

  If the workdir is a bucket, the file is copied from there first.
  """
  path = local_folder(workdir) / name
  if is_bucket(workdir):
    path.unlink(missing_ok=True)
    remote = epath.Path(workdir) / name
    if remote.exists():
      path.write_bytes(remote.read_bytes())
  return path


def publish_file(workdir: epath.PathLike, path: pathlib.Path) -> None:
  """Copies a local file into the workdir, if that is a bucket."""
  if is_bucket(workdir):
    remote = epath.Path(workdir) / path.name
    remote.write_bytes(path.read_bytes())
