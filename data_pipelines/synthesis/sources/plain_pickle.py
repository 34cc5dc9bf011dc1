# SPDX-License-Identifier: Apache-2.0
"""Elements of a pickled list of plain values, read one by one without executing anything.

Only the opcodes of lists, tuples, dicts, texts, bytes and numbers are known: a pickle that names a
class or a function is an error before anything is called. Elements are handed over as they are
read, and few of those read before are kept, so that a file may be larger than the memory.
"""

from collections import deque
from collections.abc import Iterator
import io
import itertools
import os
import pickle
from typing import Any, ClassVar

from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.report import RecordError

LARGEST_FILE = 16 << 30  # Bytes.
LARGEST_VALUE = 16 << 20  # Bytes of a text or number.
LARGEST_BATCH = 256 << 20  # Bytes of the elements that are appended together, usually 1,000.
MOST_OPCODES = 1 << 24  # Of these elements.
DEEPEST = 100  # Lists, tuples and dicts inside each other while they are built.
REMEMBERED = 1 << 18  # Values that later ones may refer to, beside those referred to already.
_APPENDING = pickle.APPEND + pickle.APPENDS
_OPCODES = (
  *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
  *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
  *(pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT),
  *(pickle.BININT, pickle.BININT1, pickle.BININT2),
  *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
  *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
  *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
  *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
  *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
  *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
  *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
  *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
)

_PythonUnpickler: Any = pickle._Unpickler  # In Python; the usual one is in C.


def pickled_elements(path: str | os.PathLike) -> Iterator[Any]:
  """The elements of the list in a pickle file.

  Raises RecordError for anything but a list of plain values, also after some elements, and OSError
  for a file that cannot be read.
  """
  size = os.path.getsize(path)
  if size > LARGEST_FILE:
    raise RecordError(f"has {size} bytes; at most {LARGEST_FILE} are read")
  with open(path, "rb") as file:
    try:
      yield from _PlainUnpickler(_BoundedFile(file)).elements()
    except RecordError:
      raise
    except Exception as error:  # A damaged pickle may raise almost any.
      reason = one_line(f"{type(error).__name__}: {error}", 100)
      raise RecordError(f"is not a pickle of a list of plain values ({reason})") from None


class _BoundedFile:
  """A file for an unpickler, with limited reads."""

  def __init__(self, file: io.BufferedReader):
    self.batch = 0  # Bytes since the last elements.
    self._file = file

  def read(self, size: int) -> bytes:
    """Reads `size` bytes."""
    if size > LARGEST_VALUE:
      raise RecordError(f"has a value of {size} bytes; at most {LARGEST_VALUE} are read")
    return self._counted(self._file.read(size))

  def readline(self) -> bytes:
    """Reads to the end of a line."""
    line = self._file.readline(LARGEST_VALUE)
    if len(line) == LARGEST_VALUE:
      raise RecordError(f"has a value of {LARGEST_VALUE} bytes or more")
    return self._counted(line)

  def _counted(self, data: bytes) -> bytes:
    self.batch += len(data)
    if self.batch > LARGEST_BATCH:
      raise RecordError(f"has elements of more than {LARGEST_BATCH} bytes")
    return data


class _Memo(dict[int, Any]):
  """Values by number; the oldest are dropped unless they were referred to."""

  def __init__(self) -> None:
    super().__init__()
    self._numbers: deque[int] = deque()
    self._count = 0
    self._pinned: dict[int, Any] = {}

  def __len__(self) -> int:  # The number of the next value.
    return self._count

  def __setitem__(self, number: int, value: Any) -> None:
    super().__setitem__(number, value)
    self._pinned.pop(number, None)
    self._count += 1
    self._numbers.append(number)
    if len(self._numbers) > REMEMBERED:
      self.pop(self._numbers.popleft(), None)

  def __getitem__(self, number: int) -> Any:
    value = self.get(number, self._pinned.get(number, self))
    if value is self:
      raise RecordError(
        f"refers to its value {number}, which was not kept; convert the pickle to .jsonl"
      )
    self._pinned[number] = value
    return value


class _PlainUnpickler(_PythonUnpickler):
  """Python's own unpickler without the opcodes that import or call."""

  dispatch: ClassVar = {code[0]: _PythonUnpickler.dispatch[code[0]] for code in _OPCODES}

  def __init__(self, file: _BoundedFile):
    super().__init__(file, encoding="utf-8")
    self._source = file

  def elements(self) -> Iterator[Any]:
    """The elements of the outermost list."""
    self._unframer = pickle._Unframer(self._source.read, self._source.readline)  # type: ignore[attr-defined]
    self.read = self._unframer.read
    self.readline = self._unframer.readline
    self.metastack: list[list] = []
    self.stack: list[Any] = []
    self.append = self.stack.append
    self.proto = 0
    self.memo = _Memo()
    opcodes = 0
    try:
      while True:
        code = self.read(1)
        if not code:
          raise EOFError("it ends too early")
        opcodes += 1
        if opcodes > MOST_OPCODES or len(self.metastack) > DEEPEST:
          raise RecordError("has elements of too many values or too deep ones")
        self._function(code[0])(self)
        if code in _APPENDING and self._is_outermost():
          outermost = self.stack[0]
          yield from outermost
          outermost.clear()
          opcodes = 0
          self._source.batch = 0
    except pickle._Stop as stop:  # type: ignore[attr-defined]
      if not isinstance(stop.value, list):
        raise RecordError(f"holds a {type(stop.value).__name__}, not a list") from None
      yield from itertools.chain(stop.value)

  def _function(self, code: int) -> Any:
    """The function of an opcode. Raises RecordError."""
    function = self.dispatch.get(code)
    if function is None:
      raise RecordError(
        f"is not a pickle of plain values (opcode {bytes([code])!r} may run code); nothing was "
        "run. Convert it to .jsonl on a machine that may"
      )
    return function

  def load_setitem(self) -> None:
    """Sets an entry of a dict."""
    _check_keys(self.stack[-2:-1])
    super().load_setitem()

  def load_setitems(self) -> None:
    """Sets entries of a dict."""
    _check_keys(self.stack[::2])
    super().load_setitems()

  def load_dict(self) -> None:
    """Makes a dict of entries."""
    _check_keys(self.stack[::2])
    super().load_dict()

  dispatch[pickle.SETITEM[0]] = load_setitem
  dispatch[pickle.SETITEMS[0]] = load_setitems
  dispatch[pickle.DICT[0]] = load_dict

  def _is_outermost(self) -> bool:
    """Whether the list just extended is the outermost one."""
    return not self.metastack and len(self.stack) == 1 and isinstance(self.stack[0], list)

  def find_class(self, module: str, name: str) -> Any:
    """Raises RecordError: no class is ever needed."""
    raise RecordError(f"names {one_line(f'{module}.{name}', 80)}; nothing was run")

  def persistent_load(self, pid: Any) -> Any:
    """Raises RecordError."""
    raise RecordError("refers to objects outside of the file; nothing was run")


def _check_keys(keys: list) -> None:
  """Raises RecordError unless keys are texts or numbers.

  The hash of a deep tuple would overflow the stack.
  """
  for key in keys:
    if not isinstance(key, str | int):
      raise RecordError(f"has a dict with a {type(key).__name__} as key")
