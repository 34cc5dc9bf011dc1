# SPDX-License-Identifier: Apache-2.0
"""Every setting of a config: its default, its valid values, and the comment beside it."""

from collections.abc import Iterator
import pathlib
import re

from docs.generators.page_files import update_page
from filax import settings
from filax.configs import common
from filax.spec import dropout_stages

SOURCE = pathlib.Path(common.__file__)


def write_settings_page(path: pathlib.Path) -> None:
  """Writes the page of settings."""
  update_page(path, settings_lines())


def settings_lines() -> Iterator[str]:
  """The page, line by line."""
  yield "# Settings"
  yield ""
  yield "All keys of a config. `--config.KEY=VALUE` changes one on the command line; the defaults"
  yield "are those of `configs/common.py`, and each stage changes the keys that differ. An invalid"
  yield "value is refused before any work starts."
  notes = comments(SOURCE.read_text())
  groups: dict[str, list[str]] = {"": []}  # The settings of no group come first.
  for name, value in settings.leaves(common.base().to_dict()):
    group = name.rpartition(".")[0]
    groups.setdefault(group, []).append(setting_row(name, value, notes))
  for group, rows in groups.items():
    yield from ("", f"## {f'config.{group}'.rstrip('.')}", "")
    yield from ("| key | default | valid values | meaning |", "|---|---|---|---|", *rows)
  yield from preset_lines()


def preset_lines() -> Iterator[str]:
  """The presets of config.model.llm.dropout."""
  yield from ("", "## Presets of visual dropout", "")
  yield "Values of `config.model.llm.dropout` and of `--dropout`. A stage drops visual tokens"
  yield "after a layer. A percentage is the share of the original visual tokens that is kept. The"
  yield "kind `uniform` keeps evenly spaced tokens, and `attention` those with the most attention."
  yield from ("", "| preset | stages |", "|---|---|")
  for name, stages in dropout_stages.PRESETS.items():
    words = [f"after layer {layer} {ratio:.0%} by {kind}" for layer, kind, ratio in stages]
    yield f"| `{name}` | {', '.join(words) or 'nothing is dropped'} |"


def setting_row(name: str, value: object, notes: dict[str, str]) -> str:
  """A row of the table."""
  allowed = settings.TABLE[name].words if name in settings.TABLE else ""
  note = notes.get(name.rpartition(".")[2], "")
  cells = [f"`config.{name}`", code(repr(value)), plain(allowed), plain(note)]
  return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
  """A text as code; a long one is cut."""
  short = text if len(text) <= 120 else f"{text[:117]}..."
  return f"`{short.replace('|', chr(92) + '|')}`"


def plain(text: str) -> str:
  """A text as Markdown shows it, character by character."""
  return re.sub(r"([|*_`<>\\$])", r"\\\1", text)


def comments(source: str) -> dict[str, str]:
  """Key -> its comment, beside it or on the lines above."""
  notes: dict[str, str] = {}
  repeated = set()
  above: list[str] = []
  for line in source.splitlines():
    text = line.strip()
    if text.startswith("# "):
      above.append(text[2:])
      continue
    match = re.match(r"(?:c\.)?(\w+) ?=", text)
    beside = text.partition("  # ")[2]
    note = " ".join([*above, beside]).strip()
    above = []
    if match is None or not note:
      continue
    if match[1] in notes:
      repeated.add(match[1])
    notes[match[1]] = note
  for key in repeated:  # A word such as "name" means another thing in another group.
    del notes[key]
  return notes
