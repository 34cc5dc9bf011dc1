# SPDX-License-Identifier: Apache-2.0
"""Bytes that devices send each other, read from a compiled program's text.

A loop's body counts as often as it runs. Of n devices, an all-gather receives (n-1)/n of its
result, a reduce-scatter sends as much of its operand, an all-reduce does both; the rest moves what
it holds.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
import re

import numpy as np

BITS = {
  "pred": 8,
  "s4": 4,
  "u4": 4,
  "s8": 8,
  "u8": 8,
  "s16": 16,
  "u16": 16,
  "bf16": 16,
  "f16": 16,
  "s32": 32,
  "u32": 32,
  "f32": 32,
  "s64": 64,
  "u64": 64,
  "f64": 64,
}
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
NOWHERE = "-"  # The axis of a collective whose groups are of one device.

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{", re.MULTILINE)
_INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[a-z][\w\-]*)\((?P<rest>.*)$"
)
_CALLED = re.compile(r"(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"s32\[\][^=]* constant\((\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_LISTS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of the text, with all its runs."""

  kind: str
  axes: str  # The mesh axes whose devices take part: "fsdp", "fsdp*seq".
  bytes: float  # Of one device, all runs together.
  runs: int


def read(text: str, mesh_shape: Mapping[str, int]) -> list[Collective]:
  """The collectives of a compiled program; `mesh_shape` is axis -> size, in the mesh's order.

  Where a collective is spread over several fusions, all name its channel: it counts once. An
  all-reduce whose fusion keeps a part alone, as its name then says, is a reduce-scatter.
  """
  bodies, entry = _computations(text)
  found = {}
  for body, runs in _runs(bodies, entry).items():
    for line in bodies[body]:
      one = _collective(line, mesh_shape, runs) if runs else None
      if one and one.kind == "all-reduce" and "all-reduce-scatter" in body:
        one = dataclasses.replace(one, kind="reduce-scatter", bytes=one.bytes / 2)
      if one:
        channel = _CHANNEL.search(line)
        found.setdefault(channel[1] if channel else (body, line), one)
  return list(found.values())


def totals(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
  """axes -> kind -> bytes a device."""
  out: dict[str, dict[str, float]] = {}
  for one in collectives:
    kinds = out.setdefault(one.axes, {})
    kinds[one.kind] = kinds.get(one.kind, 0.0) + one.bytes
  return out


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """name -> the lines of each computation, and the name of the entry."""
  bodies = {}
  entry = ""
  lines = []
  for line in text.splitlines():
    if line and not line[0].isspace():
      if match := _COMPUTATION.match(line):
        lines = bodies.setdefault(match[2], [])
        entry = match[2] if match[1] else entry
    else:
      lines.append(line)
  return bodies, entry


def _runs(bodies: Mapping[str, list[str]], entry: str) -> dict[str, int]:
  """How often each computation runs in one run of the program; a branch counts as taken."""
  counts = dict.fromkeys(bodies, 0)

  def visit(name: str, times: int) -> None:
    if name not in bodies:
      return
    counts[name] += times
    for line in bodies[name]:
      for called, trips in _calls(line, bodies):
        visit(called, times * trips)

  visit(entry, 1)
  return counts


def _calls(line: str, bodies) -> Iterator[tuple[str, int]]:
  match = _INSTRUCTION.match(line)
  if not match:
    return
  rest = match["rest"]
  if match["op"] == "while":
    body = re.search(r"body=%?([\w.\-]+)", rest)
    yield body[1], _trips(rest, bodies)
    return
  for called in _CALLED.findall(rest):
    yield called, 1
  for branches in _BRANCHES.findall(rest):
    yield from ((name.strip(" %"), 1) for name in branches.split(","))


def _trips(rest: str, bodies) -> int:
  """How often a loop runs: as the compiler noted, else the bound in its condition."""
  if match := _TRIPS.search(rest):
    return int(match[1])
  condition = bodies.get(re.search(r"condition=%?([\w.\-]+)", rest)[1], ())
  bounds = [int(n) for line in condition for n in _BOUND.findall(line)]
  return max(bounds, default=1)


def _collective(line: str, mesh_shape: Mapping[str, int], runs: int) -> Collective | None:
  match = _INSTRUCTION.match(line)
  if not match:
    return None
  kind = match["op"].removesuffix("-start")
  if kind not in KINDS:
    return None
  group = _group(match["rest"], mesh_shape)
  n = len(group)
  if n < 2:
    return None
  sizes = [_bytes(*array) for array in _ARRAY.findall(match["type"])]
  if match["op"].endswith("-start") and len(sizes) > 1:  # (operands, results, state)
    sizes = [max(sizes)] if kind != "all-reduce" else sizes
  size = sum(sizes)
  factor = {
    "all-gather": (n - 1) / n,
    "all-reduce": 2 * (n - 1) / n,
    "reduce-scatter": n - 1.0,
    "all-to-all": (n - 1) / n,
    "collective-permute": 1.0,
  }[kind]
  if kind == "reduce-scatter" and match["op"].endswith("-start"):
    factor = (n - 1) / n  # The largest is its operand.
  return Collective(kind, _axes(group, mesh_shape), size * factor * runs, runs)


def _bytes(kind: str, dims: str) -> float:
  count = math.prod(int(d) for d in dims.split(",") if d)
  return count * BITS.get(kind, 0) / 8


def _group(rest: str, mesh_shape: Mapping[str, int]) -> list[int]:
  """Devices, by place in the mesh, of the first group that takes part."""
  if match := _IOTA.search(rest):
    shape, dims = ([int(n) for n in text.split(",")] for text in match.groups()[:2])
    ids = np.arange(math.prod(dims)).reshape(dims)
    if match[3]:
      ids = ids.transpose([int(n) for n in match[3].split(",")])
    return ids.reshape(shape)[0].tolist()
  if match := _MESH.search(rest):
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", match[1])}
    ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    taken = set(re.findall(r"'(\w+)'", match[2]))
    return ids[tuple(slice(None) if name in taken else 0 for name in sizes)].ravel().tolist()
  if match := _LISTS.search(rest):
    first = re.findall(r"\{([\d,]+)\}", match[1])
    return [int(n) for n in first[0].split(",")] if first else []
  return list(range(math.prod(mesh_shape.values())))


def _axes(group: Sequence[int], mesh_shape: Mapping[str, int]) -> str:
  """The mesh axes along which the devices of a group differ."""
  at = np.array(np.unravel_index(np.array(group), tuple(mesh_shape.values())))
  varying = [a for a, row in zip(mesh_shape, at, strict=True) if len(set(row.tolist())) > 1]
  return "*".join(varying) or NOWHERE
