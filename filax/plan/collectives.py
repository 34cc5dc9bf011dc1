# SPDX-License-Identifier: Apache-2.0
"""Bytes that devices exchange, from the text of a compiled program.

A loop's body counts once for each iteration. Of n devices, each receives (n-1)/n of the result of
an all-gather, and sends (n-1)/n of the operand of a reduce-scatter. An all-reduce does both. Other
collectives move their whole array. Example: an all-gather of 8 MB on 4 devices brings 6 MB to each.
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
NOWHERE = "-"  # The axis of a collective whose groups have one device.

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{", re.MULTILINE)
INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[a-z][\w\-]*)\((?P<rest>.*)$"
)
_CALLED = re.compile(r"(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"s32\[\][^=]* constant\((\d+)\)")
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_LISTS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of the program, over all its executions."""

  kind: str
  axes: str  # The mesh axes whose devices take part: "fsdp", "fsdp*seq".
  bytes: float  # Bytes that one device sends, over all executions.
  runs: int


def read_collectives(text: str, mesh_shape: Mapping[str, int]) -> list[Collective]:
  """The collectives of a compiled program.

  mesh_shape: axis -> size, in the mesh's order.

  A collective that is spread over several fusions, which all name its channel, counts once. An
  all-reduce whose fusion keeps only a part, as its name shows, is a reduce-scatter.
  """
  bodies, entry = computations(text)
  collectives: dict[object, Collective] = {}
  for name, runs in _runs(bodies, entry).items():
    if not runs:
      continue
    for line in bodies[name]:
      collective = _collective(line, mesh_shape, runs)
      if collective is None:
        continue
      if collective.kind == "all-reduce" and "all-reduce-scatter" in name:
        collective = dataclasses.replace(
          collective, kind="reduce-scatter", bytes=collective.bytes / 2
        )
      channel = _CHANNEL.search(line)
      key = channel[1] if channel else (name, line)
      collectives.setdefault(key, collective)
  return list(collectives.values())


def totals(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
  """axes -> kind -> bytes a device."""
  sums: dict[str, dict[str, float]] = {}
  for collective in collectives:
    kinds = sums.setdefault(collective.axes, {})
    kinds[collective.kind] = kinds.get(collective.kind, 0.0) + collective.bytes
  return sums


def computations(text: str) -> tuple[dict[str, list[str]], str]:
  """(name -> lines of each computation, name of the entry)."""
  bodies: dict[str, list[str]] = {}
  entry = ""
  lines: list[str] = []
  for line in text.splitlines():
    if not line or line[0].isspace():
      lines.append(line)
      continue
    match = _COMPUTATION.match(line)
    if match is None:
      continue
    lines = bodies.setdefault(match[2], [])
    if match[1]:
      entry = match[2]
  return bodies, entry


def _runs(bodies: Mapping[str, list[str]], entry: str) -> dict[str, int]:
  """Executions of each computation per program run, all branches taken."""
  counts = dict.fromkeys(bodies, 0)

  def visit(name: str, times: int) -> None:
    if name not in bodies:
      return
    counts[name] += times
    for line in bodies[name]:
      for called, trips in calls_of(line, bodies):
        visit(called, times * trips)

  visit(entry, 1)
  return counts


def calls_of(line: str, bodies: Mapping[str, list[str]]) -> Iterator[tuple[str, int]]:
  """(computation, number of calls) of an instruction."""
  match = INSTRUCTION.match(line)
  if not match:
    return
  rest = match["rest"]
  if match["op"] == "while":
    yield named_computation("body", rest), _trips(rest, bodies)
    return
  for called in _CALLED.findall(rest):
    yield called, 1
  for branches in _BRANCHES.findall(rest):
    for name in branches.split(","):
      yield name.strip(" %"), 1


def named_computation(field: str, rest: str) -> str:
  """The computation in a field of a loop.

  Raises TypeError without that field.
  """
  match = re.search(rf"{field}=%?([\w.\-]+)", rest)
  if match is None:
    raise TypeError(f"This loop of the compiled program has no {field}: {rest}")
  return match[1]


def _trips(rest: str, bodies: Mapping[str, list[str]]) -> int:
  """Iterations of a loop: the compiler's note, else its condition's bound."""
  if match := _TRIPS.search(rest):
    return int(match[1])
  condition = named_computation("condition", rest)
  bounds: list[int] = []
  for line in bodies.get(condition, ()):
    bounds.extend(map(int, _BOUND.findall(line)))
  return max(bounds, default=1)


def _collective(line: str, mesh_shape: Mapping[str, int], runs: int) -> Collective | None:
  """The collective in a line that runs `runs` times, or None."""
  match = INSTRUCTION.match(line)
  if not match:
    return None
  is_start = match["op"].endswith("-start")
  kind = match["op"].removesuffix("-start")
  if kind not in KINDS:
    return None
  group = _group(match["rest"], mesh_shape)
  if len(group) < 2:
    return None
  sizes = []
  for dtype, dims in ARRAY.findall(match["type"]):
    sizes.append(array_bytes(dtype, dims))
  size = sum(sizes)
  if is_start and kind != "all-reduce":  # (operands, results, state)
    size = max(sizes, default=0.0)
  moved = size * _share_moved(kind, len(group), is_start) * runs
  return Collective(kind, _axes(group, mesh_shape), moved, runs)


def _share_moved(kind: str, devices: int, is_start: bool) -> float:
  """Bytes that a device moves, as a multiple of the instruction's array.

  The array is the result; of a reduce-scatter's start it is the operand.
  """
  if kind == "all-reduce":
    return 2 * (devices - 1) / devices
  if kind == "collective-permute":
    return 1.0
  if kind == "reduce-scatter" and not is_start:
    return devices - 1.0
  return (devices - 1) / devices


def array_bytes(dtype: str, dims: str) -> float:
  """Bytes of an array such as ("bf16", "64,8")."""
  count = math.prod(_numbers(dims))
  return count * BITS.get(dtype, 0) / 8


def _numbers(text: str) -> list[int]:
  """ "64,8" as [64, 8]; "" as []."""
  return [int(number) for number in text.split(",") if number]


def _group(rest: str, mesh_shape: Mapping[str, int]) -> list[int]:
  """Devices of the first group, by place in the mesh."""
  if match := _IOTA.search(rest):
    dims = _numbers(match[2])
    ids = np.arange(math.prod(dims)).reshape(dims)
    if match[3]:
      ids = ids.transpose(_numbers(match[3]))
    return ids.reshape(_numbers(match[1]))[0].tolist()
  if match := _MESH.search(rest):
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", match[1])}
    ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    taken = set(re.findall(r"'(\w+)'", match[2]))
    index = tuple(slice(None) if name in taken else 0 for name in sizes)
    return ids[index].ravel().tolist()
  if match := _LISTS.search(rest):
    groups = re.findall(r"\{([\d,]+)\}", match[1])
    return _numbers(groups[0]) if groups else []
  return list(range(math.prod(mesh_shape.values())))


def _axes(group: Sequence[int], mesh_shape: Mapping[str, int]) -> str:
  """The mesh axes along which the devices of a group differ."""
  coordinates = np.unravel_index(np.array(group), tuple(mesh_shape.values()))
  varying = []
  for axis, row in zip(mesh_shape, coordinates, strict=True):
    if len(set(row.tolist())) > 1:
      varying.append(axis)
  return "*".join(varying) or NOWHERE
