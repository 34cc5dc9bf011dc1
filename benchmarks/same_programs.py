# SPDX-License-Identifier: Apache-2.0
"""Compiled programs as text without names and source positions.

Operations, their order, shapes, layouts, attributes and constants stay. Names of the module, of
computations and of instructions become numbers in the order in which they appear.
"""

import re

_STRING = r'"(?:\\.|[^"\\])*"'
_METADATA = re.compile(rf",? ?metadata=\{{(?:{_STRING}|\{{[^{{}}]*\}}|[^{{}}\"])*\}}")
_STACK_FRAME = re.compile(r",? ?stack_frame_id=\d+")
_HLO_NAME = re.compile(rf"{_STRING}|%[\w.\-]+")
_HLO_HEADER = re.compile(r"^(?:ENTRY )?%[\w.\-]+ \(.*\{$")
_PARAMETER_NAME = re.compile(r"(?<=[(/ ])[\w.\-]+: ")
_SOURCE_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")

_DEFINED = re.compile(r"func\.func (?:public |private )?@([\w.$\-]+|\"[^\"]*\")")
_MODULE = re.compile(r"^module @[\w.$\-]+")
_SYMBOL = re.compile(r"@([\w.$\-]+|\"[^\"]*\")")
_LOCATION_LINE = re.compile(r"^#loc\d* = .*\n", re.MULTILINE)
_LOCATION = re.compile(r" loc\((?:#loc\d*|unknown)\)")
_RESULT_PATH = re.compile(rf"jax\.(?:result_info|arg_info) = {_STRING}(?:, )?")


def is_train_step(hlo: str) -> bool:
  """Whether a program is a train step.

  Only train steps reuse the memory of their arguments.
  """
  header = hlo.partition("\n")[0]
  return "input_output_alias=" in header


def normal_hlo(text: str) -> str:
  """Optimised HLO text with numbers for names, without metadata."""
  numbers: dict[str, str] = {}

  def numbered_name(match: re.Match) -> str:
    name = match[0]
    if name.startswith('"'):
      return name
    return numbers.setdefault(name, f"%{len(numbers)}")

  lines = []
  for line in _without_source_tables(text.splitlines()):
    line = _STACK_FRAME.sub("", _METADATA.sub("", line))
    if line.startswith("HloModule "):
      line = re.sub(r"^HloModule [^,\s]+", "HloModule", line)
    elif _HLO_HEADER.match(line):
      line = _PARAMETER_NAME.sub("", line)
    lines.append(_HLO_NAME.sub(numbered_name, line))
  return "\n".join(lines) + "\n"


def _without_source_tables(lines: list[str]) -> list[str]:
  """Removes the tables of files and functions.

  Each ends at an empty line.
  """
  kept = []
  inside = False
  for line in lines:
    if line.strip() in _SOURCE_TABLES:
      inside = True
    if not inside:
      kept.append(line)
    if not line.strip():
      inside = False
  return kept


def normal_stablehlo(text: str) -> str:
  """StableHLO text with numbers for the names of functions, without locations.

  Targets of custom calls and names of meshes stay.
  """
  text = _LOCATION.sub("", _LOCATION_LINE.sub("", text))
  text = _RESULT_PATH.sub("", _MODULE.sub("module", text, count=1))
  defined = set(_DEFINED.findall(text)) - {"main"}
  numbers: dict[str, str] = {}

  def numbered_name(match: re.Match) -> str:
    name = match[1]
    if name not in defined:
      return match[0]
    return numbers.setdefault(name, f"@{len(numbers)}")

  return _SYMBOL.sub(numbered_name, text)
