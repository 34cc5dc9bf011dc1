# SPDX-License-Identifier: Apache-2.0
"""Archives that a publisher packs media in, and how to unpack them."""

import pathlib
import re
import shlex

from data_pipelines.media import remote

FOLDERS = 3  # Folders above a missing medium that are searched.
_WHOLE = re.compile(r".+\.(?:zip|tar|tgz|tar\.(?:gz|bz2|xz|zst))")
# Parts of one archive: videos.tar.part.aa, videos.tar.part-aa, videos.tar.gz.00, videos.zip.001.
_PART = re.compile(
  r"(?P<stem>.+\.(?P<kind>zip|tar|tgz|tar\.gz))[._-](?:part)?[._-]?(?:\d{1,4}|[a-z]{2})"
)


def unpacking_hint(medium: str) -> str:
  """A sentence about archives near a missing medium, or ""."""
  for folder in list(pathlib.PurePath(medium).parents)[:FOLDERS]:
    try:
      names = sorted(remote.file_names(folder))
    except OSError:
      continue
    commands = _commands(names)
    if commands:
      there = shlex.quote(str(folder))
      return f"They may be in archives: cd {there}; {'; '.join(commands)}. "
  return ""


def _commands(names: list[str]) -> list[str]:
  """The commands that unpack the archives among some names."""
  commands: dict[str, None] = {}  # In the order of the names.
  tars = []
  for name in names:
    part = None if _WHOLE.fullmatch(name) else _PART.fullmatch(name)
    if part is not None:
      commands[_joined_command(part["stem"], part["kind"])] = None
    elif not _WHOLE.fullmatch(name):
      continue
    elif name.endswith(".zip"):
      commands['for f in *.zip; do unzip -n "$f"; done'] = None
    else:
      tars.append(name)
  if len(tars) == 1:
    commands[f"tar -xf {shlex.quote(tars[0])}"] = None
  elif tars:
    endings = sorted({re.sub(r".+(?=\.t)", "*", name) for name in tars})
    commands[f'for f in {" ".join(endings)}; do tar -xf "$f"; done'] = None
  return list(commands)


def _joined_command(stem: str, kind: str) -> str:
  """The command that joins the parts of an archive and unpacks it."""
  stem = shlex.quote(stem)
  if kind == "zip":
    return f"cat {stem}?* > {stem}; unzip -n {stem}"
  compressed = "" if kind == "tar" else "z"
  return f"cat {stem}?* | tar -x{compressed}"
