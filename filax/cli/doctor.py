# SPDX-License-Identifier: Apache-2.0
"""filax doctor says what is installed, which devices there are, and what is missing."""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from filax.cli import doctor_checks, options

DESCRIPTION = """What is installed, which devices there are, and what is missing for which command.

Exits with 1 if FiLax cannot run here; each problem is one sentence with what helps."""


def main(argv: Sequence[str]) -> int:
  """filax doctor [--json]"""
  args = doctor_parser().parse_args(argv)
  report = doctor_checks.examine()
  if args.json:
    print(json.dumps(report))
  else:
    print("\n".join(report_lines(report)))
  return 1 if report["problems"] else 0


def doctor_parser() -> options.Parser:
  """The options of `filax doctor`."""
  parser = options.Parser(prog="filax doctor", description=DESCRIPTION)
  parser.add_argument("--json", action="store_true", help="print JSON")
  return parser


def report_lines(report: Mapping[str, Any]) -> list[str]:
  """The report for people."""
  lines = [
    f"FiLax {report['filax']}, Python {report['python']}, {report['platform']}",
    "",
    "Packages",
  ]
  for package in report["packages"]:
    state = package["version"] or "missing"
    needs = "" if package["fits"] else f"   needs {package['needs']}"
    lines.append(f"  {package['name']:<24} {state}{needs}")
  lines += ["", "Devices"]
  for device in report["devices"]:
    memory = "" if device["memory"] is None else f", {_gigabytes(device['memory'])}"
    lines.append(f"  {device['count']} x {device['kind']} ({device['platform']}{memory})")
  machine = report["machine"]
  lines.append(
    f"  {machine['cpus']} CPUs, {_gigabytes(machine['memory'])} of memory, "
    f"{_gigabytes(machine['free_disk'])} free here"
  )
  cache = report["compilation_cache"]
  lines += ["", f"Compiled programs: {cache['words']}"]
  lines += ["", f"Video: PyAV {report['video']['av']}"]
  lines.append(f"  reads {', '.join(report['video']['reads']) or 'nothing'}")
  if report["video"]["lacks"]:
    lines.append(f"  lacks {', '.join(report['video']['lacks'])}")
  lines += ["", "Extras"]
  for extra in report["extras"]:
    state = "installed" if not extra["missing"] else f"lacks {', '.join(extra['missing'])}"
    lines.append(f"  {extra['name']:<12} {extra['serves']}: {state}")
    if extra["missing"]:
      lines.append(f"  {'':<12}   {extra['install']}")
  if report["environment"]:
    lines += ["", "Environment"]
    lines += [f"  {name}={value}" for name, value in report["environment"].items()]
  lines += ["", *(report["problems"] or ["No problems were found."])]
  return lines


def _gigabytes(size: int) -> str:
  return f"{size / 1e9:,.1f} GB"
