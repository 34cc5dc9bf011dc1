# SPDX-License-Identifier: Apache-2.0
"""Do all processes of a run plan the same? They compare digests, and then only what differs.

What a process knows is given in parts (its settings, its manifests, its media …), each a mapping
from a name to a short text. A digest a part is exchanged; of a part that differs, two processes
exchange digests of buckets of its entries, and then what is in a few buckets that differ. So little
is sent, however many media there are. All of it goes through filax.parallel.key_value, before
anything is compiled.
"""

from collections.abc import Mapping
import hashlib
import itertools
import json
import socket
import time
import zlib

from filax.parallel import ending, key_value

Part = Mapping[str, str]

_BUCKETS = 16_384  # By name; 600 entries each where there are ten million.
_LOOKED_AT = 4  # Buckets whose entries are exchanged.
_DIGITS = 8  # Of a bucket's digest.
_NAMED = 3  # Entries that a sentence names.
_LONGEST = 80  # Characters of a value in a sentence.
_END_SECONDS = 60.0
_rounds = itertools.count()


def check(parts: Mapping[str, Part]) -> None:
  """Returns if all processes have the same `parts`; else all end, naming what differs and where.

  parts: name of a part -> its entries, the most telling part first. Every process must call this
  equally often. Waits until all have.
  """
  if not key_value.connected() or key_value.count() == 1:
    return
  base = f"filax/agreement/{next(_rounds)}"
  index = key_value.index()
  digests = {name: digest(part) for name, part in parts.items()}
  key_value.put(f"{base}/{index}", json.dumps(dict(host=socket.gethostname(), digests=digests)))
  if index == 0:
    key_value.put(f"{base}/verdict", json.dumps(_verdict(base)))
  verdict = json.loads(key_value.wait(f"{base}/verdict"))
  if not verdict:
    return
  pair = (verdict["reference"], verdict["other"])
  if index in pair:
    part = parts.get(verdict["part"], {})
    there, here = _exchange(base, part, index, pair[1 - pair.index(index)])
    if index == verdict["other"]:
      was, now = (f"process {number}: " for number in pair)
      ending.end_all(_sentence(verdict, differences(there, here, was, now)))
  time.sleep(_END_SECONDS)  # The thread of filax.parallel.ending ends this process.
  ending.end_all(_sentence(verdict, ""))


def digest(part: Part) -> str:
  """sha256 of a part, whatever the order of its entries."""
  sha = hashlib.sha256()
  for name in sorted(part):
    sha.update(f"{name}\0{part[name]}\0".encode(errors="replace"))
  return sha.hexdigest()


def differences(before: Part, after: Part, was: str = "was ", now: str = "is ") -> str:
  """The first entries that differ, in words; "" if none does."""
  names = [
    name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
  ]
  words = []
  for name in names[:_NAMED]:
    words.append(f"{name} ({was}{_short(before.get(name))}, {now}{_short(after.get(name))})")
  if len(names) > _NAMED:
    words.append(f"and {len(names) - _NAMED} more")
  return ", ".join(words)


def _verdict(base: str) -> dict:
  """What process 0 finds: {} if all digests agree, else who differs from whom in which part."""
  reports = []
  for index in range(key_value.count()):
    text = key_value.wait(f"{base}/{index}", f"the plan of process {index}")
    reports.append(json.loads(text))
  names = list(reports[0]["digests"])
  names += sorted({name for report in reports for name in report["digests"]} - set(names))
  differing = [
    name for name in names if len({report["digests"].get(name) for report in reports}) > 1
  ]
  if not differing:
    return {}
  groups: dict[str, list[int]] = {}
  for index, report in enumerate(reports):
    groups.setdefault(str(report["digests"].get(differing[0])), []).append(index)
  most = max(groups.values(), key=lambda group: (len(group), -group[0]))
  others = [index for index in range(len(reports)) if index not in most]
  return dict(
    part=differing[0],
    parts=differing,
    reference=most[0],
    other=others[0],
    others=others,
    hosts={index: reports[index]["host"] for index in [most[0], *others[:_NAMED]]},
  )


def _exchange(base: str, part: Part, index: int, peer: int) -> tuple[Part, Part]:
  """(the peer's, our own) entries of a few buckets that differ."""
  buckets = _buckets(part)
  own = [digest(dict(bucket))[:_DIGITS] for bucket in buckets]
  key_value.put(f"{base}/buckets/{index}", "".join(own))
  text = key_value.wait(f"{base}/buckets/{peer}")
  theirs = [text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS)]
  differing = [number for number in range(_BUCKETS) if own[number] != theirs[number]]
  entries = dict(entry for number in differing[:_LOOKED_AT] for entry in buckets[number])
  key_value.put(f"{base}/entries/{index}", json.dumps(entries))
  return json.loads(key_value.wait(f"{base}/entries/{peer}")), entries


def _buckets(part: Part) -> list[list[tuple[str, str]]]:
  buckets: list[list[tuple[str, str]]] = [[] for _ in range(_BUCKETS)]
  for name, text in part.items():
    buckets[zlib.crc32(name.encode(errors="replace")) % _BUCKETS].append((name, text))
  return buckets


def _sentence(verdict: Mapping, details: str) -> str:
  others = ", ".join(
    f"{index} ({verdict['hosts'][str(index)]})" for index in verdict["others"][:_NAMED]
  )
  if len(verdict["others"]) > _NAMED:
    others += f" and {len(verdict['others']) - _NAMED} more"
  reference = verdict["reference"]
  also = verdict["parts"][1:]
  return (
    f"The processes do not plan the same run: process {others} differs from process {reference} "
    f"({verdict['hosts'][str(reference)]}) in {verdict['part']}"
    + (f": {details}" if details else "")
    + (f"; also in {', '.join(also)}" if also else "")
    + ". Give all processes the same files and the same settings."
  )


def _short(text: str | None) -> str:
  if text is None:
    return "absent"
  return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
