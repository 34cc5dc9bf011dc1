# SPDX-License-Identifier: Apache-2.0
"""The part of page.html with the settings of the run, and the time it took."""

from collections.abc import Mapping
from typing import Any

from filax.evals import html_page
from filax.evals.html_page import Markup, element, setting_text
from filax.evals.results import Results

NAMES = dict(
  manifest="data",
  filax="FiLax",
  frames="candidate frames",
  fps="frames a second",
  tokens_per_frame="tokens a frame",
  dropout="visual dropout",
  max_new_tokens="longest answer in tokens",
  batch="prompts at a time",
  protocol_version="version of the protocol",
)
FIELDS = (
  *("benchmark", "protocol", "protocol_version", "checkpoint", "manifest", "filax"),
  *("selector", "frames"),
)


def settings_section(results: Results) -> list[Markup]:
  """Settings and times, the first prompt, and hashes."""
  result = results.result
  rows = _settings(result) | _times(result)
  parts = [html_page.heading("Settings"), html_page.words_table(rows)]
  prompt = result["first_prompt"]
  if prompt and results.shows_text:
    parts.append(html_page.folded("Prompt of the first question", element("pre", prompt)))
  hashes = _hashes(result["hashes"])
  if hashes:
    parts.append(html_page.folded("Hashes", html_page.words_table(hashes)))
  return parts


def _settings(result: Mapping[str, Any]) -> dict[str, str]:
  """Name in words -> setting."""
  values = {name: result[name] for name in FIELDS}
  values |= result["settings"]
  rows = {}
  for name, value in values.items():
    words = NAMES.get(name, html_page.column_title(name))
    rows[words] = setting_text(value)
  return rows


def _times(result: Mapping[str, Any]) -> dict[str, str]:
  """Seconds by phase, idle share and compilations."""
  rows = {}
  for phase, seconds in result["seconds"].items():
    rows[f"seconds of {phase}"] = f"{seconds or 0:,.1f}"
  share = result["idle_share"]
  if share is not None:
    rows["share of time in which the device waited"] = f"{share:.1%}"
  rows["compiled programs"] = setting_text(result["compilations"])
  return rows


def _hashes(hashes: Mapping[str, Any]) -> dict[str, str]:
  """A row for the checkpoint and for each annotation file."""
  rows: dict[str, str] = {}
  for name, value in hashes.items():
    if isinstance(value, Mapping):
      rows |= {str(file): str(digest) for file, digest in value.items()}
    elif value:
      rows[name] = str(value)
  return rows
