# SPDX-License-Identifier: Apache-2.0
"""Parts of HTML pages: escaped text, elements, tables and the frame of a page.

Text of any origin is escaped on its way in: only Markup, which these functions return, is taken as
HTML. Pages refer to no other file and no address, and a policy in their head forbids to load any.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
import hashlib
import html
import importlib.resources
import json
import re
from typing import Any

VOID = ("img", "input", "meta")  # Elements without an end.
NOTHING = "\N{EN DASH}"  # Stands for a number that does not exist.
# Control characters, and halves of UTF-16 pairs, which UTF-8 cannot hold.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
  """HTML: text that is escaped already."""


def printable(value: Any) -> str:
  """Text with U+FFFD for characters that no page can hold."""
  lines = str(value).replace("\r\n", "\n")
  return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", lines)


def markup(value: Any) -> Markup:
  """The HTML of a value: escaped text, or Markup as it is."""
  if isinstance(value, Markup):
    return value
  return Markup(html.escape(printable(value)))


def joined(parts: Iterable[Any], between: str = "") -> Markup:
  """The HTML of several values."""
  return Markup(between.join([markup(part) for part in parts]))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
  """An element; `class_` is its class, `data_title` its data-title."""
  names = []
  for name, value in attributes.items():
    names.append(f' {name.rstrip("_").replace("_", "-")}="{markup(value)}"')
  start = f"<{tag}{''.join(names)}>"
  if tag in VOID:
    return Markup(start)
  return Markup(f"{start}{joined(children)}</{tag}>")


def card(*children: Any) -> Markup:
  """A box."""
  return element("div", *children, class_="card")


def number_card(name: str, value: Any, note: Any = "") -> Markup:
  """A box with one figure."""
  return card(
    element("div", name, class_="faint"),
    element("div", value, class_="number"),
    element("div", note, class_="faint"),
  )


def card_row(cards: Iterable[Markup], class_: str = "row") -> Markup:
  """Boxes side by side."""
  return element("div", *cards, class_=class_)


def folded(title: Any, *children: Any) -> Markup:
  """A part that opens with a click."""
  return element("details", element("summary", title), *children)


def bullet_list(items: Iterable[Any]) -> Markup:
  """A list."""
  return element("ul", *[element("li", item) for item in items])


def table(
  head: Sequence[Any], rows: Iterable[Sequence[Any]], class_: str = "", published: int = 0
) -> Markup:
  """A table in a box; its last `published` rows are numbers of others."""
  lines = []
  if head:
    lines.append(element("tr", *[element("th", cell) for cell in head]))
  all_rows = list(rows)
  for place, row in enumerate(all_rows):
    others = place >= len(all_rows) - published
    cells = [element("td", cell) for cell in row]
    lines.append(element("tr", *cells, class_="published" if others else "own"))
  return card(element("table", *lines, class_=class_))


def points(value: float | None) -> str:
  """A score as in the papers: 0.6234 -> "62.3".

  Scores beyond 1, such as CIDEr, stay as they are.
  """
  if value is None:
    return NOTHING
  if abs(value) > 1:
    return f"{value:.3g}"
  return f"{100 * value:.1f}"


def signed_points(value: float | None) -> str:
  """A difference of scores with its sign: 0.012 -> "+1.2"."""
  if value is None:
    return NOTHING
  text = f"{100 * value:+.1f}"
  return text.replace("-", "\N{MINUS SIGN}")


def counted(count: int, noun: str) -> str:
  """A number of things: "1 question", "2,700 questions"."""
  plural = "" if count == 1 else "s"
  return f"{count:,} {noun}{plural}"


def json_block(name: str, value: Any) -> Markup:
  """JSON that the page's script reads; nothing in it can end the block."""
  text = printable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
  for character in "<>&\u2028\u2029":
    text = text.replace(character, f"\\u{ord(character):04x}")
  return Markup(f'<script type="application/json" id="{markup(name)}">{text}</script>')


def resource(name: str) -> str:
  """The text of a file that lies beside this module."""
  return (importlib.resources.files("filax.evals") / name).read_text(encoding="utf-8")


def whole_page(title: str, parts: Iterable[Markup], *, style: str = "", script: str = "") -> str:
  """A page of its own.

  The script runs by the hash of its text: no other one, however it came into the page, does.
  """
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  script_source = f"'sha256-{digest}'" if script else "'none'"
  policy = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_source}"
  )
  body = joined(parts, "\n")
  script_element = f"<script>{script}</script>\n" if script else ""
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{markup(title)}</title>\n<style>{resource('page.css')}{style}</style>\n</head>\n"
    f"<body>\n<main>\n{body}\n</main>\n{script_element}</body>\n</html>\n"
  )


def words_table(rows: Mapping[str, Any]) -> Markup:
  """A table of names and their values in words; empty values are left out."""
  lines = []
  for name, value in rows.items():
    if value not in (None, "", [], {}):
      lines.append((name, value))
  return table((), lines, class_="words")
