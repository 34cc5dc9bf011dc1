# SPDX-License-Identifier: Apache-2.0
"""Bytes that a loop's body reads and writes, from the text of a compiled program.

Counted are the operands and results of every instruction, inner loops times their iterations. An
update in place counts by the size of the update, a slice by the size of the slice. Arrays that the
compiler keeps in a TPU's vector memory (memory space 1) are not traffic.
"""

from collections.abc import Mapping, Sequence
import re

from filax.plan.collectives import (
  ARRAY,
  INSTRUCTION,
  array_bytes,
  calls_of,
  computations,
  named_computation,
)

FREE = {  # Instructions that touch no array themselves, or whose computations are counted instead.
  "after-all",
  "bitcast",
  "call",
  "conditional",
  "constant",
  "get-tuple-element",
  "iota",
  "parameter",
  "tuple",
  "while",
}
UPDATE = "dynamic-update-slice"
SLICES = {"dynamic-slice", "slice", "gather"}
THROUGH = {"bitcast", "reshape", "copy", "convert", "transpose"}  # Inside a fusion: no array.
STATE_BYTES = 64  # An asynchronous copy carries a small state.
_NAMES = re.compile(r"%([\w.\-]+)")
_LAYOUT = re.compile(r"([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?")


class _Line:
  """An instruction of a computation."""

  def __init__(self, match: re.Match, text: str):
    self.text = text
    self.name = match["name"]
    self.type = match["type"]
    self.op = match["op"]
    self.rest = match["rest"]
    self.operands = _NAMES.findall(_arguments(match["rest"]))
    self.is_root = match[0].lstrip().startswith("ROOT")


def loop_bytes(text: str) -> float:
  """Bytes that one iteration of the program's outermost loop touches.

  Raises ValueError if the entry has no loop.
  """
  bodies, entry = computations(text)
  program = {name: _lines(body) for name, body in bodies.items()}
  total = 0.0
  for line in program[entry]:
    if line.op == "while":
      total += _body_bytes(named_computation("body", line.rest), bodies, program)
  if not total:
    raise ValueError("This compiled program has no loop.")
  return total


def _lines(body: Sequence[str]) -> list[_Line]:
  """The instructions of a computation."""
  lines = []
  for text in body:
    match = INSTRUCTION.match(text)
    if match:
      lines.append(_Line(match, text))
  return lines


def _arguments(rest: str) -> str:
  """The text up to the parenthesis that closes an instruction's operands."""
  depth = 1
  for place, letter in enumerate(rest):
    depth += (letter == "(") - (letter == ")")
    if depth == 0:
      return rest[:place]
  return rest


def _body_bytes(name: str, bodies: Mapping, program: Mapping[str, list[_Line]]) -> float:
  """Bytes of one run of a computation, with those that it calls."""
  types = {line.name: line.type for line in program[name]}
  total = 0.0
  for line in program[name]:
    if line.op in ("while", "call", "conditional"):
      for called, trips in calls_of(line.text, bodies):
        total += trips * _body_bytes(called, bodies, program)
    else:
      total += _line_bytes(line, types, program)
  return total


def _line_bytes(line: _Line, types: Mapping[str, str], program) -> float:
  """Bytes that an instruction reads and writes."""
  if line.op in FREE or line.op.endswith("-done"):
    return 0.0
  if line.op.endswith("-start"):  # (operand, result, state): what is moved, once.
    sizes = []
    for dtype, dims in ARRAY.findall(line.type):
      sizes.append(array_bytes(dtype, dims))
    return min(size for size in sizes if size > STATE_BYTES or size == max(sizes))
  if line.op in SLICES:
    return 2 * _memory_bytes(line.type)
  if line.op == UPDATE:
    return 2 * _memory_bytes(types.get(line.operands[1], ""))
  if line.op == "fusion":
    return _fusion_bytes(line, types, program)
  total = _memory_bytes(line.type)
  for name in line.operands:
    total += _memory_bytes(types.get(name, ""))
  return total


def _memory_bytes(type_text: str) -> float:
  """Bytes of the arrays of a type that are in memory."""
  total = 0.0
  for dtype, dims, layout in _LAYOUT.findall(type_text):
    if "S(1)" not in layout:
      total += array_bytes(dtype, dims)
  return total


def _fusion_bytes(line: _Line, types: Mapping[str, str], program) -> float:
  """Operands as far as the fusion reads them, and what it writes."""
  called = named_computation("calls", line.rest)
  inner = program[called]
  updated = _updated_parameters(inner)
  total = 0.0
  for number, name in enumerate(line.operands):
    outer = types.get(name, "")
    if number in updated or not _memory_bytes(outer):
      continue
    total += min(_memory_bytes(outer), _parameter_reads(inner, number, program))
  return total + _fusion_writes(line, inner)


def _fusion_writes(line: _Line, inner: Sequence[_Line]) -> float:
  """Bytes that a fusion writes; an update in place by its size."""
  by_name = {part.name: part for part in inner}
  root = next(part for part in inner if part.is_root)
  results = [root]
  if root.op == "tuple":
    results = [by_name[name] for name in root.operands]
  total = 0.0
  for result, (_, _, layout) in zip(results, _LAYOUT.findall(line.type), strict=False):
    if "S(1)" in layout:
      continue
    update = _update(result, by_name)
    total += _plain_bytes(update.type if update else result.type)
  return total


def _update(result: _Line, by_name: Mapping[str, _Line]) -> _Line | None:
  """The update of a result that is a dynamic-update-slice, or None."""
  while result.op in THROUGH and result.operands:
    result = by_name[result.operands[0]]
  return by_name[result.operands[1]] if result.op == UPDATE else None


def _updated_parameters(inner: Sequence[_Line]) -> set[int]:
  """Parameters of a fusion that it only updates in place.

  It does not read them otherwise.
  """
  numbers = set()
  for line in inner:
    if line.op != "parameter":
      continue
    users = [user for user in inner if line.name in user.operands]
    updates = [user for user in users if user.operands[0] == line.name and user.op == UPDATE]
    if users and len(updates) == len(users):
      numbers.add(int(_arguments(line.rest)))
  return numbers


def _parameter_reads(inner: Sequence[_Line], number: int, program) -> float:
  """Bytes that a fusion reads of its parameter `number`."""
  for line in inner:
    if line.op == "parameter" and int(_arguments(line.rest)) == number:
      return _reads(line, inner, program)
  return 0.0


def _reads(line: _Line, inner: Sequence[_Line], program) -> float:
  """Bytes of a value that its users in a fusion read."""
  total = 0.0
  for user in inner:
    if line.name not in user.operands:
      continue
    if user.op in SLICES:
      total += _plain_bytes(user.type)
    elif user.op in THROUGH:
      total += _reads(user, inner, program)
    elif user.op == "fusion":
      called = program[named_computation("calls", user.rest)]
      total += _parameter_reads(called, user.operands.index(line.name), program)
    elif user.op != UPDATE:
      total += _plain_bytes(line.type)
  return min(total, _plain_bytes(line.type))


def _plain_bytes(type_text: str) -> float:
  total = 0.0
  for dtype, dims in ARRAY.findall(type_text):
    total += array_bytes(dtype, dims)
  return total
