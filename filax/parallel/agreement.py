# SPDX-License-Identifier: Apache-2.0
"""Ends all processes of a run if their plans differ.

The inputs of a plan are given in parts (settings, manifests, media …), each a mapping from a name
to a short text. The processes exchange one digest for each part. For a part that differs, two
processes exchange digests of buckets of its entries, and then the entries of a few such buckets, so
that little is sent even for millions of media. All of it goes through filax.parallel.key_value,
before anything is compiled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import hashlib
import itertools
import json
import socket
import threading
import time
from typing import Any
import zlib

from filax.parallel import ending, key_value

Part = Mapping[str, str]

_BUCKETS = 16_384  # Entries are bucketed by name: 600 in each for ten million media.
_EXCHANGED = 4  # Buckets whose entries are exchanged.
_DIGITS = 8  # Length of a bucket's digest.
_NAMED = 3  # Entries named in a message.
_LONGEST = 80  # Characters of a value in a message.
_END_SECONDS = 60.0
_FAILED_SECONDS = 120.0
_rounds = itertools.count()
_text_rounds = itertools.count()
_outcome_rounds = itertools.count()


def require_equal(parts: Mapping[str, Part]) -> None:
  """Ends all processes if their parts differ, naming the difference.

  parts: name of a part -> its entries, the most informative part first. Waits for all processes, so
  each must call this equally often.
  """
  if not key_value.connected() or key_value.count() == 1:
    return
  base = f"filax/agreement/{next(_rounds)}"
  index = key_value.index()
  _put_digests(f"{base}/{index}", parts)
  if index == 0:
    key_value.put(f"{base}/verdict", json.dumps(_verdict(base)))
  verdict = json.loads(key_value.wait(f"{base}/verdict"))
  if not verdict:
    return
  reference = verdict["reference"]
  other = verdict["other"]
  if index in (reference, other):
    part = parts.get(verdict["part"], {})
    peer = other if index == reference else reference
    theirs, ours = _exchange(base, part, index, peer)
    if index == other:
      details = differences(theirs, ours, f"process {reference}: ", f"process {other}: ")
      ending.end_all(_sentence(verdict, details))
  time.sleep(_END_SECONDS)  # The thread of filax.parallel.ending ends this process.
  ending.end_all(_sentence(verdict, ""))


def share_texts(text: str) -> list[str]:
  """The texts of all processes, by their number.

  Waits for all processes, so each must call this equally often.
  """
  return _collect("texts", _text_rounds, text)


def from_first(make: Callable[[], str]) -> str:
  """The text that `make` gives on process 0, on all processes.

  For what depends on files, a clock or the environment, which hosts may see differently. Waits for
  all processes, so each must call this equally often.
  """
  is_first = not key_value.connected() or key_value.index() == 0
  return share_texts(make() if is_first else "")[0]


def share_outcomes(error: str) -> list[str]:
  """The errors of all processes in a piece of work.

  "" is success. Waits for all processes. One that failed alone would leave the others waiting for
  it on the devices: if they do not come within two minutes, its error ends all of them.
  """
  timer = threading.Timer(_FAILED_SECONDS, ending.end_all, [error])
  timer.daemon = True
  if error and key_value.connected():
    timer.start()
  try:
    return _collect("outcomes", _outcome_rounds, error)
  finally:
    timer.cancel()


def _collect(name: str, rounds: Iterator[int], text: str) -> list[str]:
  """The texts that all processes bring to a round.

  Process 0 collects them, so that a round costs two messages a process, and removes those of the
  round before.
  """
  if not key_value.connected() or key_value.count() == 1:
    return [text]
  number = next(rounds)
  base = f"filax/{name}/{number}"
  index = key_value.index()
  key_value.put(f"{base}/{index}", text)
  if index == 0:
    texts = []
    for process in range(key_value.count()):
      texts.append(key_value.wait(f"{base}/{process}", f"process {process}"))
    key_value.remove(f"filax/{name}/{number - 1}")  # All have read it: they are in this round.
    key_value.put(f"{base}/all", json.dumps(texts))
  return json.loads(key_value.wait(f"{base}/all", "process 0"))


def digest(part: Part) -> str:
  """The sha256 of a part, independent of the order of its entries."""
  sha = hashlib.sha256()
  for name in sorted(part):
    sha.update(f"{name}\0{part[name]}\0".encode(errors="replace"))
  return sha.hexdigest()


def differences(before: Part, after: Part, was: str = "was ", now: str = "is ") -> str:
  """The first differing entries in words; "" for equal parts."""
  names = [
    name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
  ]
  words = []
  for name in names[:_NAMED]:
    words.append(f"{name} ({was}{_short(before.get(name))}, {now}{_short(after.get(name))})")
  if len(names) > _NAMED:
    words.append(f"and {len(names) - _NAMED} more")
  return ", ".join(words)


def _put_digests(key: str, parts: Mapping[str, Part]) -> None:
  digests = {}
  for name, part in parts.items():
    digests[name] = digest(part)
  report = dict(host=socket.gethostname(), digests=digests)
  key_value.put(key, json.dumps(report))


def _verdict(base: str) -> dict[str, Any]:
  """The differing parts and processes; {} if none differ.

  This function runs on process 0.
  """
  reports = []
  for index in range(key_value.count()):
    text = key_value.wait(f"{base}/{index}", f"the plan of process {index}")
    reports.append(json.loads(text))
  differing = _differing_parts(reports)
  if not differing:
    return {}
  groups: dict[str, list[int]] = {}
  for index, report in enumerate(reports):
    text = str(report["digests"].get(differing[0]))
    groups.setdefault(text, []).append(index)
  majority = max(groups.values(), key=lambda group: (len(group), -group[0]))
  reference = majority[0]
  others = [index for index in range(len(reports)) if index not in majority]
  hosts = {}
  for index in (reference, *others[:_NAMED]):
    hosts[index] = reports[index]["host"]
  return dict(
    part=differing[0],
    parts=differing,
    reference=reference,
    other=others[0],
    others=others,
    hosts=hosts,
  )


def _differing_parts(reports: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names of the parts whose digests differ, in process 0's order."""
  names = list(reports[0]["digests"])
  elsewhere = set()
  for report in reports:
    elsewhere.update(report["digests"])
  names += sorted(elsewhere.difference(names))
  differing = []
  for name in names:
    digests = {report["digests"].get(name) for report in reports}
    if len(digests) > 1:
      differing.append(name)
  return differing


def _exchange(base: str, part: Part, index: int, peer: int) -> tuple[Part, Part]:
  """(entries of the peer, own entries) of the first differing buckets."""
  buckets = _buckets(part)
  digests = [digest(dict(bucket))[:_DIGITS] for bucket in buckets]
  key_value.put(f"{base}/buckets/{index}", "".join(digests))
  peer_digests = key_value.wait(f"{base}/buckets/{peer}")
  differing = []
  for number, text in enumerate(digests):
    start = number * _DIGITS
    if text != peer_digests[start : start + _DIGITS]:
      differing.append(number)
  entries: dict[str, str] = {}
  for number in differing[:_EXCHANGED]:
    entries.update(buckets[number])
  key_value.put(f"{base}/entries/{index}", json.dumps(entries))
  peer_entries = json.loads(key_value.wait(f"{base}/entries/{peer}"))
  return peer_entries, entries


def _buckets(part: Part) -> list[list[tuple[str, str]]]:
  buckets: list[list[tuple[str, str]]] = [[] for _ in range(_BUCKETS)]
  for name, text in part.items():
    number = zlib.crc32(name.encode(errors="replace")) % _BUCKETS
    buckets[number].append((name, text))
  return buckets


def _sentence(verdict: Mapping[str, Any], details: str) -> str:
  hosts = verdict["hosts"]
  others = []
  for index in verdict["others"][:_NAMED]:
    others.append(f"{index} ({hosts[str(index)]})")
  processes = ", ".join(others)
  if len(verdict["others"]) > _NAMED:
    processes += f" and {len(verdict['others']) - _NAMED} more"
  reference = verdict["reference"]
  text = (
    f"The processes do not plan the same run: process {processes} differs from process {reference} "
    f"({hosts[str(reference)]}) in {verdict['part']}"
  )
  if details:
    text += f": {details}"
  also = verdict["parts"][1:]
  if also:
    text += f"; also in {', '.join(also)}"
  return text + ". Give all processes the same files and the same settings."


def _short(text: str | None) -> str:
  if text is None:
    return "absent"
  if len(text) <= _LONGEST:
    return text
  return f"{text[:_LONGEST]}…"
