# SPDX-License-Identifier: Apache-2.0
"""A run's folder where it is a bucket: what is written line by line is kept on this machine, and
copied over whole."""

import hashlib
import pathlib

from etils import epath


def local(workdir: epath.PathLike) -> pathlib.Path:
  """The workdir itself; for gs:// or s3://, a folder of its own below ~/.cache/filax. It exists."""
  text = str(workdir)
  path = pathlib.Path(text)
  if "://" in text:
    name = hashlib.sha256(text.rstrip("/").encode()).hexdigest()[:16]
    path = pathlib.Path("~/.cache/filax").expanduser() / name
  path.mkdir(parents=True, exist_ok=True)
  return path


def fetch(workdir: epath.PathLike, name: str) -> pathlib.Path:
  """The local path of a file of the workdir, brought here if the workdir is a bucket."""
  path, remote = local(workdir) / name, epath.Path(workdir) / name
  if "://" in str(workdir):
    path.unlink(missing_ok=True)
    if remote.exists():
      path.write_bytes(remote.read_bytes())
  return path


def publish(workdir: epath.PathLike, path: pathlib.Path) -> None:
  """Copies a local file into the workdir, if that is a bucket."""
  if "://" in str(workdir):
    (epath.Path(workdir) / path.name).write_bytes(path.read_bytes())
