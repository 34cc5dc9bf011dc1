# SPDX-License-Identifier: Apache-2.0
"""Members of a tar by name and by place.

"x.tar#member" is one regular file inside it.

Nothing is unpacked. Links, devices, sparse files and names that lead elsewhere are refused.
"""

from collections.abc import Iterator
import functools
import hashlib
import io
import os
import re
import struct
import tarfile
import threading
from typing import BinaryIO, NamedTuple
import weakref

import numpy as np

from data_pipelines.media import remote
from data_pipelines.media.file_part import FilePart

BLOCK = 512  # Bytes; a tar consists of blocks.
# Name, size, checksum, type, magic and prefix of a header.
_FIELDS = struct.Struct("100s24x12s12x8s1s100x6s82x155s12x")
_LARGEST_HEADER = 1 << 20  # Bytes of a long name or of pax attributes.
_NAME = re.compile(r"(.+?\.tar)#(.+)", re.DOTALL)
_MEMBERS_REMEMBERED = 4096
_KINDS = {
  tarfile.SYMTYPE: "a symbolic link",
  tarfile.LNKTYPE: "a link",
  tarfile.CHRTYPE: "a device",
  tarfile.BLKTYPE: "a device",
  tarfile.FIFOTYPE: "a pipe",
  tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class TarError(ValueError):
  """A tar is damaged, or lacks a member."""


class TarMember(NamedTuple):
  """A member of a tar. Places are bytes of the file."""

  name: str
  header: int  # Where its headers begin.
  start: int  # Where its content begins.
  size: int
  end: int  # Where the next member begins.
  refusal: str  # Why it is not read; "" for a regular file.


class _Attributes(NamedTuple):
  """What long headers say of the next member."""

  name: str = ""
  size: int | None = None
  sparse: bool = False


def split_member(media: str | os.PathLike) -> tuple[str, str] | None:
  """Splits "x.tar#member" into file and member; None for other media."""
  match = _NAME.fullmatch(os.fspath(media))
  return None if match is None else (match[1], match[2])


def tar_members(file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[TarMember]:
  """The members between two places; folders are left out.

  Raises TarError at the first damage: what follows it cannot be read.
  """
  size = os.fstat(file.fileno()).st_size
  place = start
  while stop is None or place < stop:
    member, place = _next_member(file, place, size)
    if member is None:
      return
    if member.refusal != "a folder":
      yield member


def _next_member(file: BinaryIO, header: int, length: int) -> tuple[TarMember | None, int]:
  """(the member whose headers begin at `header`, where the next begins).

  The member is None at the end.
  """
  attributes = _Attributes()
  place = header
  while True:
    block = os.pread(file.fileno(), BLOCK, place)
    if len(block) == BLOCK and not block.strip(b"\0"):
      return None, place
    if len(block) < BLOCK:
      raise TarError(f"is cut off: it ends after {length} bytes without an end mark")
    short_name, short_size, kind = _parsed_header(block, place)
    size = short_size if attributes.size is None else attributes.size
    start = place + BLOCK
    if size < 0 or start + size > length:
      raise TarError(
        f"is cut off: {short_name!r} has {size} bytes, but the file ends after {length}"
      )
    end = start + -(-size // BLOCK) * BLOCK
    if kind not in (*_LONG, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
      name = attributes.name or short_name
      refusal = _refusal(name, kind, attributes.sparse)
      content = 0 if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else size
      return TarMember(name.removeprefix("./"), header, start, content, end, refusal), end
    if size > _LARGEST_HEADER:
      raise TarError(f"has a header of {size} bytes at byte {place}")
    if kind in _LONG:
      content_bytes = os.pread(file.fileno(), size, start)
      attributes = _LONG[kind](content_bytes, attributes)
    place = end


def _parsed_header(block: bytes, place: int) -> tuple[str, int, bytes]:
  """(name, size, type) of a header.

  tarfile parses all fields, which takes ten times as long. Raises TarError for a wrong checksum.
  """
  name, size_field, sum_field, kind, magic, prefix = _FIELDS.unpack(block)
  try:
    size = _number(size_field)
    noted = _number(sum_field)
  except ValueError:
    raise TarError(f"has no header at byte {place}") from None
  if noted != sum(block) - sum(sum_field) + 8 * ord(" "):
    raise TarError(f"has no header at byte {place}")
  path = name.partition(b"\0")[0]
  if magic == b"ustar\0" and prefix[0]:
    path = prefix.partition(b"\0")[0] + b"/" + path
  if kind == tarfile.AREGTYPE and path.endswith(b"/"):
    kind = tarfile.DIRTYPE
  return path.decode("utf-8", "surrogateescape"), size, kind


def _number(field: bytes) -> int:
  """A number of a header.

  In octal digits, or in bytes after a first one of 128 or 255.
  """
  if field[0] in (0x80, 0xFF):
    value = int.from_bytes(field[1:])
    return value - 256 ** (len(field) - 1) if field[0] == 0xFF else value
  return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _long_name(content: bytes, attributes: _Attributes) -> _Attributes:
  """The attributes with a name of GNU tar."""
  name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
  return attributes._replace(name=name)


def _pax(content: bytes, attributes: _Attributes) -> _Attributes:
  """The attributes with those of a pax header.

  A header consists of records "length key=value\\n".
  """
  while content:
    match = re.match(rb"([0-9]{1,7}) ([^=]+)=", content)
    length = int(match[1]) if match else 0
    if match is None or not match.end() < length <= len(content):
      raise TarError("has pax attributes that are damaged")
    value = content[match.end() : length - 1]
    key = match[2]
    if key == b"path":
      attributes = attributes._replace(name=value.decode("utf-8", "surrogateescape"))
    elif key == b"size" and value.isdigit():
      attributes = attributes._replace(size=int(value))
    elif key.startswith(b"GNU.sparse"):
      attributes = attributes._replace(sparse=True)
    content = content[length:]
  return attributes


_LONG = {
  tarfile.GNUTYPE_LONGNAME: _long_name,
  tarfile.XHDTYPE: _pax,
  tarfile.SOLARIS_XHDTYPE: _pax,
}


def _refusal(name: str, kind: bytes, sparse: bool) -> str:
  """Why a member is not read; "" for a regular file."""
  if kind == tarfile.DIRTYPE:
    return "a folder"
  if name.startswith("/") or ".." in name.split("/") or "\0" in name:
    return "a name that leads out of the tar"
  if sparse:
    return _KINDS[tarfile.GNUTYPE_SPARSE]
  if kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
    return ""
  return _KINDS.get(kind, "of an unknown kind")


class TarIndex:
  """Places of a tar's members by name.

  16 bytes a member: hashes of names, ascending, and where headers begin.
  """

  def __init__(self, file: BinaryIO):
    hashes = []
    headers = []
    self.damage = ""
    try:
      for member in tar_members(file):
        hashes.append(_name_hash(member.name))
        headers.append(member.header)
    except TarError as error:
      self.damage = str(error)
    unsorted = np.array(hashes, np.uint64)
    order = np.argsort(unsorted, kind="stable")
    self._hashes = unsorted[order]
    self._headers = np.array(headers, np.int64)[order]

  def find(self, file: BinaryIO, name: str) -> TarMember:
    """The member of a name. Raises TarError unless there is exactly one."""
    wanted = np.uint64(_name_hash(name))
    first = np.searchsorted(self._hashes, wanted, "left")
    last = np.searchsorted(self._hashes, wanted, "right")
    members = []
    for header in self._headers[first:last].tolist():
      member = next(tar_members(file, header))
      if member.name == name:
        members.append(member)
    if len(members) == 1:
      return members[0]
    if members:
      raise TarError(f"is {len(members)} members of one name")
    raise TarError(self.damage or f"the tar has {len(self._hashes)} members, but none of that name")


def _name_hash(name: str) -> int:
  data = name.encode("utf-8", "surrogateescape")
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


_index_lock = threading.Lock()
_places: dict[tuple[str, int, int, str], int] = {}  # Headers of members that were read last.


def remember_member(path: str, file: BinaryIO, member: TarMember) -> None:
  """Remembers where a member is, to open it without an index."""
  key = (path, *_version(file), member.name)
  with _index_lock:
    _places[key] = member.header
    if len(_places) > _MEMBERS_REMEMBERED:
      del _places[next(iter(_places))]


def find_member(path: str, file: BinaryIO, name: str) -> TarMember:
  """The member of a name in an open tar.

  Raises TarError if there is none, or if it is not a regular file.
  """
  version = _version(file)
  with _index_lock:
    header = _places.get((path, *version, name))
    if header is not None:
      member = next(tar_members(file, header))
    else:
      member = _index(path, *version).find(file, name)
  if member.refusal:
    raise TarError(f"is {member.refusal}, which is not read")
  return member


def _version(file: BinaryIO) -> tuple[int, int]:
  facts = os.fstat(file.fileno())
  return facts.st_size, facts.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _index(path: str, size: int, changed: int) -> TarIndex:
  """The index of a version of a tar."""
  with open(remote.local_path(path), "rb") as file:
    return TarIndex(file)


class MemberFile(FilePart):
  """The content of a member as a file of its own.

  Closing it closes the tar.
  """

  def __init__(self, file: BinaryIO, member: TarMember):
    super().__init__(file, member.start, member.size)
    weakref.finalize(self, file.close)


def open_member(path: str, file: BinaryIO, name: str) -> BinaryIO:
  """A member's content, read from the open tar.

  Closing it closes the tar.
  """
  member = find_member(path, file, name)
  return io.BufferedReader(MemberFile(file, member), 1 << 16)
