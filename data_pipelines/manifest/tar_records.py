# SPDX-License-Identifier: Apache-2.0
"""Records of a WebDataset tar.

A record consists of neighbouring members with the same key.

  000017.json  000017.mp4  000018.json  000018.jpg …

The key of a member is its name up to the first dot after the last slash. The record is the .json
member (or a .txt member as a caption). Its media are the other members; nothing is unpacked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import os
from typing import Any, BinaryIO

from data_pipelines.manifest import json_text
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.report import RecordError
from data_pipelines.media.open import PICTURES
from data_pipelines.media.tar_members import TarError, TarMember, remember_member, tar_members

VIDEOS = (".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
_PICKLES = (".pyd", ".pkl", ".pickle", ".pt", ".pth")  # Reading one runs the code in it.
_LONGEST_TEXT = 16 << 20  # Bytes of a record.
_MOST_MEMBERS = 10_000  # The most members with one key.
_NAMES = ("media", "path", "url")  # Keys that name a medium inside an entry.
_MEDIA = ("image", "images", "video", "videos", "video_path", "scenes")
_LISTS = ("messages", "conversations")


def tar_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a tar with their places."""
  for located in tar_places(file):
    record = located.record
    if record is None:
      try:
        record = tar_record_at(path, file, located.start, located.stop)
      except (ValueError, RecursionError) as error:
        record = RecordError(str(error))
    yield located._replace(record=record)


def tar_places(file: BinaryIO) -> Iterator[LocatedRecord]:
  """The places of a tar's records.

  The records are not read: they are None.
  What follows a damage cannot be read, and is one RecordError.
  """
  number = 0
  count = 0
  key = ""
  start = end = 0
  try:
    for member in tar_members(file):
      member_key = _key(member.name)
      if count and (member_key != key or count == _MOST_MEMBERS):
        number += 1
        yield LocatedRecord(number, None, start, end)
        count = 0
      if not count:
        key = member_key
        start = member.header
      count += 1
      end = member.end
    damage = ""
  except TarError as error:
    damage = str(error)
  if count:
    number += 1
    yield LocatedRecord(number, None, start, end)
  if damage:
    length = os.fstat(file.fileno()).st_size
    rest = RecordError(f"{damage}; the rest cannot be read")
    yield LocatedRecord(number + 1, rest, length, length)


def tar_record_at(path: str, file: BinaryIO, start: int, stop: int) -> Any:
  """The record of the members between two places. Raises ValueError."""
  return _record(path, file, list(tar_members(file, start, stop)))


def _key(name: str) -> str:
  folder, slash, base = name.rpartition("/")
  return folder + slash + base.partition(".")[0]


def _extension(member: TarMember) -> str:
  """What follows the key, in lower case: ".json", ".0.mp4"."""
  return member.name[len(_key(member.name)) :].lower()


def _record(path: str, file: BinaryIO, group: list[TarMember]) -> Any:
  """The record of a group. Raises ValueError (RecordError among them)."""
  _check_members(group)
  texts = [member for member in group if _extension(member).endswith(".json")]
  captions = [member for member in group if _extension(member) == ".txt"]
  exact = [member for member in texts if _extension(member) == ".json"]
  if len(exact or texts) == 1:
    record = _parsed(file, (exact or texts)[0])
  elif captions and not texts:
    record = {"caption": _content(file, captions[0])}
  else:
    raise RecordError(_without_text(group, texts))
  if isinstance(record, list):  # Messages alone.
    record = {"messages": record}
  if not isinstance(record, Mapping):
    raise RecordError(f"is {excerpt(record)}, not an object")
  media = [member for member in group if _extension(member).endswith((*VIDEOS, *PICTURES))]
  for member in media:
    remember_member(_outer_name(path), file, member)
  return _with_media(path, dict(record), media)


def _check_members(group: list[TarMember]) -> None:
  """Raises RecordError for refused members and for one name twice."""
  names = set()
  for member in group:
    if member.refusal:
      raise RecordError(f"has the member {excerpt(member.name)}, which is {member.refusal}")
    if member.name in names:
      raise RecordError(f"has the member {excerpt(member.name)} twice")
    names.add(member.name)
  if len(group) >= _MOST_MEMBERS:
    raise RecordError(f"has {len(group)} members of one key, {excerpt(_key(group[0].name))}")


def _without_text(group: list[TarMember], texts: list[TarMember]) -> str:
  """The error for a group without a record of its own."""
  if texts:
    return f"has {len(texts)} .json members: {excerpt([member.name for member in texts])}"
  pickles = [member.name for member in group if member.name.lower().endswith(_PICKLES)]
  if pickles:
    return f"has its record as a pickle, {excerpt(pickles[0])}, which is not opened"
  return f"has no .json or .txt beside {excerpt([member.name for member in group])}"


def _parsed(file: BinaryIO, member: TarMember) -> Any:
  try:
    return json_text.parse_value(_content(file, member))
  except RecordError:
    raise
  except ValueError as error:
    raise RecordError(f"has {excerpt(member.name)}, which is not JSON: {error}") from error


def _content(file: BinaryIO, member: TarMember) -> str:
  if member.size > _LONGEST_TEXT:
    raise RecordError(f"has a text of {member.size} bytes, {excerpt(member.name)}")
  data = os.pread(file.fileno(), member.size, member.start)
  return data.decode("utf-8", "surrogateescape")


def _with_media(path: str, record: dict[str, Any], media: list[TarMember]) -> dict[str, Any]:
  """A record whose names of members lead into the tar.

  A record that names no medium shows the members of its key; one name that is not a member stands
  for the only medium, because sets keep the names of files that they were made from.
  """
  tar = _outer_name(path)
  named: list[str] = []

  def noted(name: str) -> str:
    named.append(name)
    return name

  _renamed(record, noted)
  places = _places(media)
  if not named:
    return _with_all(record, media, tar)
  distinct = set(named)
  if len(distinct) == len(media) == 1 and not distinct.intersection(places):
    if not named[0].startswith("#"):
      places[named[0]] = media[0].name

  def into_tar(name: str) -> str:
    if name.startswith("#"):
      return tar + name
    return f"{tar}#{places[name]}" if name in places else name

  return _renamed(record, into_tar)


def _places(media: Iterable[TarMember]) -> dict[str, str]:
  """The members by what a record may call them.

  These are its name, its name in its folder, and its extension.
  """
  places = {}
  for member in media:
    places[member.name.rpartition("/")[2]] = member.name
    places[_extension(member).removeprefix(".")] = member.name
  for member in media:
    places[member.name] = member.name
  return places


def _with_all(record: dict[str, Any], media: list[TarMember], tar: str) -> dict[str, Any]:
  """A record without media, with all media of its key."""
  for key, extensions in (("video", VIDEOS), ("image", PICTURES)):
    names = []
    for member in media:
      if member.name.lower().endswith(extensions):
        names.append(f"{tar}#{member.name}")
    if names:
      record[key] = names[0] if len(names) == 1 else names
  return record


def _outer_name(path: str) -> str:
  """The absolute name of a tar; the folder of media may differ."""
  return path if "://" in path else os.path.abspath(path)


def _renamed(record: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
  """A copy of a record with other names of media."""
  renamed = dict(record)
  for key in _MEDIA:
    if record.get(key):
      renamed[key] = _renamed_value(record[key], rename)
  for key in _LISTS:
    if isinstance(record.get(key), list):
      renamed[key] = [_renamed_message(message, rename) for message in record[key]]
  return renamed


def _renamed_message(message: Any, rename: Callable[[str], str]) -> Any:
  """A message with other names in its parts."""
  if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
    return message
  parts = []
  for part in message["content"]:
    is_text = not isinstance(part, Mapping) or isinstance(part.get("text"), str)
    parts.append(part if is_text else _renamed_value(part, rename))
  return {**message, "content": parts}


def _renamed_value(value: Any, rename: Callable[[str], str]) -> Any:
  if isinstance(value, str):
    return rename(value)
  if isinstance(value, list):
    return [_renamed_value(entry, rename) for entry in value]
  if isinstance(value, Mapping):
    renamed = dict(value)
    for key in (*_NAMES, *_MEDIA, "video_url", "image_url"):
      if value.get(key):
        renamed[key] = _renamed_value(value[key], rename)
    return renamed
  return value
