# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation.

It holds the answers, written as they are given, and the result.

settings.json          what the answers depend on; a run with other settings is refused
answers.jsonl          a line per answer; with several processes, merged once all are done
answers.<k>-of-<n>.jsonl, share.<k>-of-<n>.json    answers and account of one of several processes
result.json            the scores (schema SCHEMA)
page.html              the result as a web page
"""

from collections.abc import Mapping, Sequence
import contextlib
import copy
import errno
import io
import json
import os
import pathlib
import re
import sys
from typing import Any, Self

from filax import files
from filax.checkpoint import lease, small_file
from filax.evals.options import Share
from filax.evals.page import write_page
from filax.evals.result_fields import OPTIONAL, with_shared_keys
from filax.evals.results import ANSWERS, RESULT
from filax.evals.rows import Row
from filax.evals.settings_record import asks_more, difference, portable_settings

PAGE = "page.html"
SETTINGS = "settings.json"
_SHARE = re.compile(r"(?:answers|lease)\.([0-9]+)-of-([0-9]+)\.jsonl?")


class OtherSettings(ValueError):
  """The folder holds answers that were made with other settings.

  The message names the first one.
  """


class ResultsFolder:
  """The folder of an evaluation; a context manager."""

  def __init__(self, folder: str | os.PathLike, share: Share):
    self.folder = pathlib.Path(folder)
    self.share = share
    self._file: io.FileIO | None = None
    self._lease: lease.Lease | None = None
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> Self:
    """Takes the share.

    Raises lease.Held if another process has it, ValueError if this is not a folder.
    """
    if self.folder.exists() and not self.folder.is_dir():
      raise ValueError(f"--out {self.folder} is a file. Name a folder for the results.")
    self.folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(self.folder)
    with self._stack:
      self._take_share()
      self._stack = self._stack.pop_all()
    return self

  def __exit__(self, *_) -> None:
    self._stack.close()

  def check_settings(self, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a new folder, or of a larger limit.

    Raises OtherSettings for another run's.
    """
    content = json.dumps(settings, indent=2).encode() + b"\n"
    file = small_file.open_small_file(self.folder, SETTINGS)
    if file.swap(None, content):
      return
    stored = file.read_content() or b"{}"
    try:
      before = portable_settings(json.loads(stored))
    except (ValueError, LookupError, TypeError, AttributeError):
      raise ValueError(
        f"{self.folder / SETTINGS} is damaged, so its answers cannot be continued. Delete the "
        "folder or set another --out."
      ) from None
    more = asks_more(before, settings)
    if more:
      before["limit"] = settings["limit"]
    if change := difference(before, portable_settings(json.loads(content))):
      raise OtherSettings(
        f"{self.folder} holds answers with other settings: {change}. Set another --out, or delete "
        "the folder."
      )
    if more:
      file.swap(stored, content)

  def read_rows(self) -> dict[str, Row]:
    """Id -> row of all answers so far, of all processes."""
    rows: dict[str, Row] = {}
    for path in (*self._part_paths(), self.folder / ANSWERS):
      parsed, _ = read_answers(path)
      for row in parsed:
        rows.setdefault(row["id"], row)
    return rows

  def open_answers(self) -> None:
    """Opens the file of `append`, without torn lines.

    Removes what an earlier run of the same share says about its end.
    """
    path = self._own_answers
    rows, damaged = read_answers(path)
    if damaged or _is_torn(path):
      self._write_answers(path, rows)
    if self._is_alone:
      self.merge(list(self.read_rows().values()))
    _remove(self._account_path(self.share))
    self._file = self._stack.enter_context(open(path, "ab", buffering=0))

  def replace_rows(self, rows: Sequence[Row]) -> None:
    """Writes all answers anew, when no other process answers."""
    self._write_answers(self.folder / ANSWERS, rows)

  def append(self, rows: Sequence[Row]) -> None:
    """Writes answers; a kill of this process loses none.

    Raises OSError, in one sentence, if there is no space.
    """
    if self._file is None or self._lease is None:
      raise ValueError("open_answers comes first")
    self._lease.check_before_save()
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    content = b"".join(lines)
    with self._spared():
      while content:
        written = self._file.write(content)
        content = content[written:]

  def write_account(self, account: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Keeps the account of a finished share.

    Returns the accounts of all shares if all have finished.
    """
    if self._is_alone:
      return [dict(account)]
    _, count = self.share
    self._write_json(self._account_path(self.share), account)
    accounts = []
    for number in range(count):
      path = self._account_path((number, count))
      try:
        accounts.append(json.loads(path.read_bytes()))
      except FileNotFoundError:
        return None
    return accounts

  def merge(self, rows: Sequence[Row]) -> None:
    """Writes answers.jsonl and removes the parts of the processes."""
    parts = self._part_paths()
    if parts or not self._is_alone:
      self._write_answers(self.folder / ANSWERS, rows)
    for path in (*parts, *self.folder.glob("share.*-of-*.json")):
      _remove(path)

  def write_result(self, result: Mapping[str, Any]) -> None:
    """Writes result.json, and page.html once the run has finished. Raises OSError."""
    self._write_json(self.folder / RESULT, result)
    if result["finished"]:
      self._write_page()

  def _write_page(self) -> None:
    """Draws page.html; a page that cannot be drawn costs no result."""
    try:
      write_page(self.folder)
    except Exception as error:
      print(f"{self.folder / PAGE} could not be drawn: {error}", file=sys.stderr, flush=True)

  def read_result(self) -> dict[str, Any] | None:
    """The result in the folder; None without a readable one.

    Fields that an older version did not write have their default.
    """
    try:
      result = json.loads((self.folder / RESULT).read_bytes())
    except (FileNotFoundError, ValueError):
      return None
    return copy.deepcopy(OPTIONAL) | result if isinstance(result, dict) else None

  def write_submission(self, content: Any) -> None:
    """Writes submission.json: answers in the form of the publisher's server."""
    self._write_json(self.folder / "submission.json", content)

  @property
  def _is_alone(self) -> bool:
    _, count = self.share
    return count == 1

  @property
  def _own_answers(self) -> pathlib.Path:
    return self.folder / (ANSWERS if self._is_alone else f"answers.{_share_name(self.share)}.jsonl")

  def _account_path(self, share: Share) -> pathlib.Path:
    return self.folder / f"share.{_share_name(share)}.json"

  def _part_paths(self) -> list[pathlib.Path]:
    return sorted(self.folder.glob("answers.*-of-*.jsonl"))

  def _take_share(self) -> None:
    """Takes the lease of the share.

    Raises lease.Held if another process holds it, or a share of another number of processes.
    """
    _, count = self.share
    for path in self.folder.glob("lease.*-of-*.json"):
      match = _SHARE.fullmatch(path.name)
      if match is None or int(match[2]) == count:
        continue
      with self._lease_named(path.name):
        pass  # It has ended: its answers are taken over.
    self._lease = self._lease_named(f"lease.{_share_name(self.share)}.json")
    self._stack.enter_context(self._lease)

  def _lease_named(self, name: str) -> lease.Lease:
    return lease.Lease(self.folder, file_name=name, knob="--out")

  def _write_answers(self, path: pathlib.Path, rows: Sequence[Row]) -> None:
    with self._spared(), files.write_atomically(path) as file:
      for row in rows:
        file.write(json.dumps(row).encode() + b"\n")

  def _write_json(self, path: pathlib.Path, content: Any) -> None:
    text = json.dumps(content, indent=2) + "\n"
    with self._spared(), files.write_atomically(path) as file:
      file.write(text.encode())

  @contextlib.contextmanager
  def _spared(self):
    """Explains a write that failed for lack of space."""
    try:
      yield
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise
      raise OSError(
        error.errno,
        f"No space is left for the results in {self.folder}. The answers so far are kept: make "
        "space, and the same command goes on from them",
      ) from None


def read_answers(path: str | os.PathLike) -> tuple[list[Row], bool]:
  """(rows of a file of answers, whether a line is damaged).

  A line that a kill tore is dropped; its question is asked again.
  """
  rows = []
  damaged = []
  number = 0
  try:
    with open(path, "rb") as file:
      for number, line in enumerate(file, 1):
        row = _parsed_row(line)
        if row is not None:
          rows.append(row)
        elif line.strip():
          damaged.append(number)
  except FileNotFoundError:
    return [], False
  if damaged and damaged != [number]:
    print(
      f"{os.fspath(path)}: {len(damaged)} damaged lines, the first is line {damaged[0]}. Their "
      "questions are asked again.",
      file=sys.stderr,
      flush=True,
    )
  return rows, bool(damaged)


def _parsed_row(line: bytes) -> Row | None:
  """The row of a line; None if it is not a row."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  is_row = isinstance(row, dict) and {"id", "answer", "score", "parsed", "choice"} <= set(row)
  return with_shared_keys(row) if is_row else None


def _is_torn(path: pathlib.Path) -> bool:
  """Whether a file lacks its last newline."""
  try:
    with open(path, "rb") as file:
      if not file.seek(0, os.SEEK_END):
        return False
      file.seek(-1, os.SEEK_END)
      return file.read(1) != b"\n"
  except FileNotFoundError:
    return False


def _share_name(share: Share) -> str:
  number, count = share
  return f"{number}-of-{count}"


def _remove(path: pathlib.Path) -> None:
  path.unlink(missing_ok=True)


def read_report(folder: str | os.PathLike) -> dict[str, Any]:
  """The result in a folder with its answers, as `evaluate` returns it."""
  folder = pathlib.Path(folder)
  result = json.loads((folder / RESULT).read_bytes())
  rows, _ = read_answers(folder / ANSWERS)
  return result | dict(answers=rows)
