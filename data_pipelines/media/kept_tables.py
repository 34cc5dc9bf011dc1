# SPDX-License-Identifier: Apache-2.0
"""Arrow tables that are kept while they fit, in memory or in mapped files."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
import contextlib
import dataclasses
import shutil
import tempfile
import threading

import pyarrow as pa

from filax.temporary_folder import TemporaryFolder

LARGEST_HELD = 32 << 20  # Bytes of a table in memory; larger ones are mapped.

Batches = Iterator[pa.RecordBatch]


@dataclasses.dataclass(frozen=True)
class _Kept:
  table: pa.Table
  held: int  # Bytes in memory.
  mapped: int  # Bytes in a file.


class KeptTables:
  """The last tables asked for. Thread-safe.

  Tables are mapped, from temporary files without a name, where memory is short. At most `count`
  are kept, with `memory` bytes held and `disk` bytes mapped, or a quarter of the free disk.
  """

  def __init__(self, count: int, memory: int, disk: int):
    self._count = count
    self._memory = memory
    self._disk = disk
    self._lock = threading.Lock()
    self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
    self._held = 0
    self._mapped = 0

  def kept_table(self, key: Hashable) -> pa.Table | None:
    """A kept table."""
    with self._lock:
      if key not in self._kept:
        return None
      self._kept.move_to_end(key)
      return self._kept[key].table

  def read_table(self, key: Hashable, read: Callable[[], Batches]) -> pa.Table:
    """Reads and keeps a table.

    When there is no room, the table that was not used for the longest time is dropped.
    """
    with self._lock:
      while len(self._kept) >= self._count:
        self._drop_oldest()
      room = min(LARGEST_HELD, self._memory - self._held)
    kept = _collected(read(), room)
    with self._lock:
      if key in self._kept:  # Another thread was faster.
        return self._kept[key].table
      limit = self._disk
      if kept.mapped:
        limit = min(limit, shutil.disk_usage(tempfile.gettempdir()).free // 4)
      while self._kept and self._exceeds(kept, limit):
        self._drop_oldest()
      self._kept[key] = kept
      self._held += kept.held
      self._mapped += kept.mapped
    return kept.table

  def _exceeds(self, kept: _Kept, disk: int) -> bool:
    if kept.mapped and self._mapped + kept.mapped > disk:
      return True
    return self._held + kept.held > self._memory

  def _drop_oldest(self) -> None:
    _, dropped = self._kept.popitem(last=False)
    self._held -= dropped.held
    self._mapped -= dropped.mapped


def _collected(batches: Batches, room: int) -> _Kept:
  """A table of batches.

  With more than `room` bytes, it is in a mapped file without a name.
  """
  held: list[pa.RecordBatch] = []
  size = 0
  with contextlib.ExitStack() as stack:
    spill = writer = None
    for batch in batches:
      size += batch.nbytes
      if writer is None and size > room:
        folder = stack.enter_context(TemporaryFolder("filax-parquet-"))
        spill = stack.enter_context(open(folder.path / "table.arrow", "wb"))
        writer = stack.enter_context(pa.ipc.new_file(spill, batch.schema))
        for earlier in held:
          writer.write_batch(earlier)
        held.clear()
      if writer is None:
        held.append(batch)
      else:
        writer.write_batch(batch)
    if spill is None or writer is None:
      table = pa.Table.from_batches(held) if held else pa.table({})
      return _Kept(table, size, 0)
    writer.close()
    spill.flush()
    with pa.memory_map(spill.name) as source:  # The map outlives its descriptor.
      table = pa.ipc.open_file(source).read_all()
    return _Kept(table, 0, size)
