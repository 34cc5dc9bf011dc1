# SPDX-License-Identifier: Apache-2.0
"""The record of a checkpoint (its item `data`).

  {"format": 2, "step": 20, "row": 160, "batch": 8, "since": [0, 0], "fingerprint": "…",
   "config": "<sha256>", "digests": {"params/llm/norm/scale": "float32[7]:…", …},
   "root": "<sha256>"}

`root` is the SHA-256 of the text before it. It covers the digests of all arrays, the row, the
fingerprint and, by its digest, the item `config`.

The row must also fit the step. `since` is the step and row at which config.batch last changed; from
there on, every step counts `batch` rows. Above, step 20 must have row 0 + 8 · (20 - 0) = 160.

If several processes write a checkpoint, each writes the digest sums of its own parts of the arrays
beside the record. When all are there, process 0 adds them.

Format 1 had no root, and digests that were linear in the elements of an array.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import errno
import hashlib
import json
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from filax.checkpoint import digest, storage

FORMAT = 2  # Raised when older versions cannot read new checkpoints.
# For checkpoints without the parameters of their base (filax.checkpoint.base).
FORMAT_WITH_BASE = 3
_OF_THIS_PROCESS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FILE = "metadata"  # The name that Orbax's handler of JSON gives to its file.
_SUMS = "sums."  # Prefix of the files that each process writes until all are ready.

Record = dict[str, Any]
Config = Mapping[str, Any]  # As JSON keeps it.


class Damaged(ValueError):
  """A checkpoint that is unreadable or differs from what was written."""


class Unreadable(OSError):
  """A checkpoint that this process cannot read, whole or not."""


def record_text(record: Record) -> str:
  """The text of a record, with its root digest."""
  text = json.dumps(dict(record))
  root = hashlib.sha256(text.encode()).hexdigest()
  body = text.removesuffix("}")
  return f'{body}, "root": "{root}"}}'


def make_record(
  step: int,
  row: int,
  fingerprint: str,
  config: Config,
  before: Record | None = None,
) -> Record:
  """A record without digests of arrays and without its root.

  config: as JSON keeps it. before: the record of the checkpoint that the run resumed from. Raises
  ValueError if `row` does not fit `step`.
  """
  batch = config.get("batch")
  since = _batch_since(before, batch)
  record: Record = dict(
    format=FORMAT,
    step=step,
    row=row,
    batch=batch,
    since=since,
    fingerprint=fingerprint,
    config=config_digest(config),
    digests={},
  )
  if not _row_fits(record):
    raise ValueError(
      f"Row {row} does not fit step {step}: step {since[0]} ended at row {since[1]}, and "
      f"every step after it counts {batch} rows."
    )
  return record


def _batch_since(before: Record | None, batch: int | None) -> list[int]:
  """[step, row] from which on each step has `batch` rows."""
  if before is None:
    return [0, 0]
  if "since" in before and before["batch"] == batch:
    return before["since"]
  return [before["step"], before["row"] - before["row"] % (batch or 1)]


def write_record(folder: epath.PathLike, record: Record) -> None:
  """Writes a record into the folder of the item `data`."""
  (epath.Path(folder) / _FILE).write_text(record_text(record))


def path_of_record(step: epath.Path) -> epath.Path:
  """The file of a step's record, which is written after all arrays."""
  return step / "data" / _FILE


def config_digest(config: Config) -> str:
  """The SHA-256 of a config's text."""
  text = json.dumps(dict(config))
  return hashlib.sha256(text.encode()).hexdigest()


def read_record(step: epath.PathLike) -> tuple[Record, dict[str, Any]]:
  """(record, config) of the folder of a step, both checked.

  Raises Damaged; ValueError if a newer FiLax wrote it.
  """
  step = epath.Path(step)
  text = _read_text(path_of_record(step), "data")
  config_text = _read_text(step / "config" / _FILE, "config")
  config = _parse_object(config_text, "config")
  record = _parse_object(text, "data")
  if not isinstance(record.get("format"), int):
    raise Damaged("its item 'data' has no format number.")
  if record["format"] > FORMAT_WITH_BASE:
    raise ValueError(
      f"{step} was written by a newer FiLax: format {record['format']}, and this one reads up to "
      f"{FORMAT_WITH_BASE}. Update FiLax."
    )
  if record["format"] != 1 or "root" in record:
    _check_digests(record, text, config)
  _check_position(step, record, config)
  if record["format"] == 1 and step.name.isdigit():
    record["step"] = int(step.name)  # Format 1 has it in the folder's name alone.
  return record, config


def _check_digests(record: Record, text: str, config: Config) -> None:
  """Compares a record and its config with their digests.

  Raises Damaged if one differs.
  """
  without_root = {key: value for key, value in record.items() if key != "root"}
  if record_text(without_root) != text:
    raise Damaged("its item 'data' is not what was written (its root digest differs).")
  if config_digest(config) != record["config"]:
    raise Damaged("its item 'config' is not what was written (its digest differs).")


def matches(expected: str | int, dtype: Any, shape: Sequence[int], total: int) -> bool:
  """Whether an array's digest is the `expected` one.

  total: the sum over all its parts.
  """
  if isinstance(expected, int):  # Format 1.
    return total % 2**32 == expected
  return digest.digest_text(dtype, shape, total) == expected


def mix_of(expected: str | int) -> digest.Mix | None:
  """The function that sums a block for the digest `expected`.

  It is None for the current format.
  """
  return digest.linear_sum if isinstance(expected, int) else None


def check_leaves(record: Record, leaves: Mapping[str, Any], prefix: str = "") -> None:
  """Compares the arrays of a checkpoint with those of its record.

  leaves: path -> anything with shape and dtype, of the arrays whose path begins with `prefix`.
  Raises Damaged if they differ.
  """
  digests = {}
  for path, text in record["digests"].items():
    if path.startswith(prefix):
      digests[path] = text
  if leaves.keys() != digests.keys():
    differing = sorted(leaves.keys() ^ digests.keys())
    raise Damaged(f"its list of arrays is not what was written ({differing[0]} differs).")
  if record["format"] == 1:
    return
  for path, leaf in leaves.items():
    written, _, _ = digests[path].partition(":")
    listed, _, _ = digest.digest_text(leaf.dtype, leaf.shape, 0).partition(":")
    if listed != written:
      raise Damaged(f"{path} is not what was written (it was {written}).")


@contextlib.contextmanager
def damage(text: str) -> Iterator[None]:
  """Turns any exception of Orbax and TensorStore about bad files into Damaged.

  Missing permission, memory or descriptors are not damage: Unreadable.
  """
  try:
    yield
  except Exception as error:
    if storage.error_number(error) in _OF_THIS_PROCESS:
      advice = "It may be whole: see its permissions, and the limits of this process (ulimit -a)."
      details = " ".join(str(error).split())[:300]
      raise Unreadable(f"A checkpoint cannot be read: {details}. {advice}") from error
    reason = " ".join(str(error).split())[:120]
    raise Damaged(f"{text} ({type(error).__name__}: {reason}).") from error


class RecordHandler(ocp.handlers.AsyncCheckpointHandler):
  """Writes the item `data` while Orbax writes the arrays.

  Both use the same copies on the host.
  """

  async def async_save(self, directory: epath.Path, args: "RecordSave"):
    writing = _write_sums(directory, args)
    future = ocp.future.CommitFutureAwaitingContractedSignals(writing, name="filax_digests")
    return [future]

  def save(self, directory: epath.Path, args: "RecordSave") -> None:
    raise NotImplementedError("A record is saved beside arrays by an asynchronous checkpointer.")

  def restore(self, directory: epath.Path, args: Any = None) -> dict[str, Any]:
    record, _ = read_record(directory.parent)
    return record

  def finalize(self, directory: epath.Path) -> None:
    """Adds up the sums of all processes and writes the record.

    On process 0, after all arrays are written.
    """
    files = []
    parts = []
    for process in range(jax.process_count()):
      file = directory / f"{_SUMS}{process}"
      files.append(file)
      parts.append(json.loads(file.read_text()))
    record = parts[0]["record"]
    for path, (dtype, shape) in record["digests"].items():
      total = sum(part["sums"].get(path, 0) for part in parts)
      record["digests"][path] = digest.digest_text(np.dtype(dtype), shape, total)
    write_record(directory, record)
    for file in files:
      file.unlink()


@ocp.args.register_with_handler(RecordHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class RecordSave(ocp.args.CheckpointArgs):
  """A record whose digests are still to be computed.

  parts: those of digest.host_parts.
  """

  record: Record
  parts: dict[str, digest.Parts]


async def _write_sums(directory: epath.Path, args: RecordSave) -> None:
  kinds = {path: (part.dtype.name, part.shape) for path, part in args.parts.items()}
  sums = digest.totals(args.parts)
  args.parts.clear()  # Frees the copies of the arrays.
  record = dict(args.record) | dict(digests=kinds)
  text = json.dumps(dict(record=record, sums=sums))
  (directory / f"{_SUMS}{jax.process_index()}").write_text(text)


def _row_fits(record: Record) -> bool:
  """Whether row and step agree at config.batch rows a step."""
  if not record["batch"]:
    return True
  first_step, first_row = record["since"]
  steps = record["step"] - first_step
  return record["row"] == first_row + steps * record["batch"]


def _check_position(step: epath.Path, record: Record, config: Config) -> None:
  """Compares step and row of a record with its folder and config.

  Raises Damaged if they differ.
  """
  row = record.get("row")
  batch = config.get("batch")
  if record["format"] == 1:
    if not isinstance(row, int) or row < 0 or row % (batch or 1):
      raise Damaged(f"its row is {row}, which is not a multiple of config.batch={batch}.")
    return
  if step.name.isdigit() and step.name != str(record["step"]):
    raise Damaged(f"it holds step {record['step']}.")
  if record["batch"] != batch or not _row_fits(record):
    raise Damaged(f"its row is {row}, which is not step {record['step']} x config.batch.")


def _read_text(path: epath.Path, item: str) -> str:
  with damage(f"its item {item!r} cannot be read"):
    return path.read_text()


def _parse_object(text: str, item: str) -> dict[str, Any]:
  with damage(f"its item {item!r} cannot be read"):
    return dict(json.loads(text))
