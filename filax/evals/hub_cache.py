# SPDX-License-Identifier: Apache-2.0
"""Finds a benchmark in the cache of Hugging Face.

HF_HOME/hub/datasets--OWNER--NAME/snapshots/REVISION holds the files of a repository, as links.
"""

import os
import re

_REPOSITORY = re.compile(r"huggingface\.co/datasets/([\w-]+)/([\w.-]*\w)")


def find_snapshot(folder: str, publisher: str) -> str | None:
  """The snapshot of a benchmark.

  It is None if `folder` is no cache that holds it.

  folder: HF_HOME, its hub/, or the folder of one repository in it. publisher: a sentence with the
  address of the repository.
  """
  snapshot = _current_snapshot(folder)
  if snapshot is not None:
    return snapshot
  for owner, name in _REPOSITORY.findall(publisher):
    repository = f"datasets--{owner}--{name}"
    for place in (repository, os.path.join("hub", repository)):
      snapshot = _current_snapshot(os.path.join(folder, place))
      if snapshot is not None:
        return snapshot
  return None


def _current_snapshot(repository: str) -> str | None:
  """The snapshot of the main branch, else the newest one."""
  folder = os.path.join(repository, "snapshots")
  if not os.path.isdir(folder):
    return None
  try:
    with open(os.path.join(repository, "refs", "main"), encoding="utf-8") as file:
      current = os.path.join(folder, file.read().strip())
  except OSError:
    current = ""
  if os.path.isdir(current):
    return current
  snapshots = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
  return max(snapshots, key=os.path.getmtime, default=None)
