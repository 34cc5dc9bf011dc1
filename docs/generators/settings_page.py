# SPDX-License-Identifier: Apache-2.0
"""Every setting of a config: its default, its valid values, and the comment beside it."""

from collections.abc import Iterator, Mapping
import pathlib
import re

from docs.generators.page_files import update_page
from docs.generators.setting_meanings import MEANINGS, OTHER_WORDS
from filax import settings
from filax.configs import common
from filax.spec import dropout_stages

SOURCE = pathlib.Path(common.__file__)
FUNCTIONS = {  # Function of configs/common.py -> the group of settings that it returns.
  "base": "",
  "fila_model": "model.",
  "qwen2": "model.llm.",
  "fila_infer": "infer.",
  "data": "data.",
  "llava_optim": "optim.",
  "lora": "lora.",
}
NOT_SET = object()  # In place of the default of a setting that the defaults do not have.


def write_settings_page(path: pathlib.Path) -> None:
  """Writes the page of settings."""
  update_page(path, settings_lines())


def settings_lines() -> Iterator[str]:
  """The page, line by line."""
  yield "# Settings"
  yield ""
  yield "All keys of a config. `--config.KEY=VALUE` changes one on the command line; the defaults"
  yield "are those of `configs/common.py`, and each stage changes the keys that differ. A dash"
  yield "stands for a key that these defaults do not have. An invalid value is refused before any"
  yield "work starts."
  notes = comments(SOURCE.read_text()) | MEANINGS
  groups: dict[str, list[str]] = {"": []}  # The settings of no group come first.
  for name, value in all_settings().items():
    group = name.rpartition(".")[0]
    groups.setdefault(group, []).append(setting_row(name, value, notes))
  for group, rows in groups.items():
    yield from ("", f"## {f'config.{group}'.rstrip('.')}", "")
    yield from ("| key | default | valid values | meaning |", "|---|---|---|---|", *rows)
  yield from preset_lines()


def all_settings() -> dict[str, object]:
  """Name -> default of every setting.

  NOT_SET stands for that of a setting which only some configs have.
  """
  defaults: dict[str, object] = dict(settings.leaves(common.base().to_dict()))
  for name in (*settings.TABLE, *OTHER_WORDS):
    defaults.setdefault(name, NOT_SET)
  return defaults


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


def setting_row(name: str, value: object, notes: Mapping[str, str]) -> str:
  """A row of the table."""
  allowed = OTHER_WORDS.get(name, "")
  if name in settings.TABLE:
    allowed = settings.TABLE[name].words.replace(", or to ", ", or ")  # Errors say "Set it to".
  default = "-" if value is NOT_SET else code(repr(value))
  cells = [f"`config.{name}`", default, plain(allowed), plain(notes.get(name, ""))]
  return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
  """A text as code; a long one is cut."""
  short = text if len(text) <= 120 else f"{text[:117]}..."
  return f"`{short.replace('|', chr(92) + '|')}`"


def plain(text: str) -> str:
  """A text as Markdown shows it, character by character."""
  return re.sub(r"([|*_`<>\\$])", r"\\\1", text)


def comments(source: str) -> dict[str, str]:
  """Name of a setting -> its comment.

  It is beside the setting, or on the lines above. A function of FUNCTIONS tells the group. source:
  that of configs/common.py.
  """
  notes: dict[str, str] = {}
  group: str | None = None  # None: in a function that returns no settings.
  above: list[str] = []
  for line in source.splitlines():
    text = line.strip()
    if function := re.match(r"def (\w+)", line):
      group = FUNCTIONS.get(function[1])
    if text.startswith("# "):
      above.append(text[2:])
      continue
    match = re.match(r"(?:c\.)?(\w+) ?=", text)
    beside = text.partition("  # ")[2]
    note = " ".join([*above, beside]).strip()
    above = []
    if match is not None and note and group is not None:
      notes[f"{group}{match[1]}"] = note
  return notes
