# SPDX-License-Identifier: Apache-2.0
"""Parts of HTML pages.

Escaped text, elements, boxes, tables and the frame of a page.

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
_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
{script}</body>
</html>
"""


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
  text = printable(value)
  return Markup(html.escape(text))


def joined(parts: Iterable[Any], between: str = "") -> Markup:
  """The HTML of several values."""
  text = between.join(map(markup, parts))
  return Markup(text)


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
  """An element; `class_` is its class, `data_title` its data-title."""
  start = tag
  for name, value in attributes.items():
    attribute = name.rstrip("_").replace("_", "-")
    start += f' {attribute}="{markup(value)}"'
  if tag in VOID:
    return Markup(f"<{start}>")
  content = joined(children)
  return Markup(f"<{start}>{content}</{tag}>")


def heading(text: Any) -> Markup:
  """The heading of a section."""
  return element("h2", text)


def note(text: Any) -> Markup:
  """A paragraph of less weight."""
  return element("p", text, class_="faint")


def card(*children: Any) -> Markup:
  """A box."""
  return element("div", *children, class_="card")


def number_card(name: str, value: Any, remark: Any = "") -> Markup:
  """A box with one figure."""
  return card(
    element("div", name, class_="faint"),
    element("div", value, class_="number"),
    element("div", remark, class_="faint"),
  )


def card_row(cards: Iterable[Markup]) -> Markup:
  """Boxes side by side."""
  return element("div", *cards, class_="row")


def warning_card(sentences: Sequence[str]) -> list[Markup]:
  """A box of warnings; [] without any."""
  if not sentences:
    return []
  return [element("div", bullet_list(sentences), class_="card warn")]


def folded(title: Any, *children: Any) -> Markup:
  """A part that opens with a click."""
  summary = element("summary", title)
  return element("details", summary, *children)


def bullet_list(items: Iterable[Any]) -> Markup:
  """A list."""
  lines = [element("li", item) for item in items]
  return element("ul", *lines)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], class_: str = "") -> Markup:
  """A table in a box."""
  lines = []
  if head:
    lines.append(table_row("th", head))
  for row in rows:
    lines.append(table_row("td", row))
  return card(element("table", *lines, class_=class_))


def table_row(tag: str, cells: Iterable[Any]) -> Markup:
  """A line of a table; `tag` is that of its cells."""
  elements = [element(tag, cell) for cell in cells]
  return element("tr", *elements)


def words_table(rows: Mapping[str, Any]) -> Markup:
  """A table of names and values; empty values are left out."""
  lines = []
  for name, value in rows.items():
    if value not in (None, "", [], {}):
      lines.append((name, value))
  return table((), lines, class_="words")


def points(value: float | None) -> str:
  """A score as in the papers: 0.6234 -> "62.3".

  Scores beyond 1, such as CIDEr, stay as they are.
  """
  if value is None:
    return NOTHING
  if abs(value) > 1:
    return f"{value:.3g}"
  return f"{100 * value:.1f}"


def signed_points(value: float) -> str:
  """A difference of scores with its sign: 0.012 -> "+1.2"."""
  text = f"{100 * value:+.1f}"
  return text.replace("-", "\N{MINUS SIGN}")


def counted(count: int, noun: str) -> str:
  """A number of things: "1 question", "2,700 questions"."""
  plural = "" if count == 1 else "s"
  return f"{count:,} {noun}{plural}"


def column_title(column: str) -> str:
  """The name of a column in words."""
  return column.replace("_", " ")


def setting_text(value: Any) -> str:
  """A setting in words."""
  if isinstance(value, Mapping):
    pairs = [f"{name}={inner}" for name, inner in value.items()]
    return ", ".join(pairs)
  return "" if value is None else str(value)


def json_block(name: str, value: Any) -> Markup:
  """JSON for the page's script; nothing in it can end the block."""
  text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
  text = printable(text)
  for character in "<>&\u2028\u2029":
    text = text.replace(character, f"\\u{ord(character):04x}")
  return Markup(f'<script type="application/json" id="{markup(name)}">{text}</script>')


def resource(name: str) -> str:
  """The text of a file that lies beside this module."""
  path = importlib.resources.files("filax.evals") / name
  return path.read_text(encoding="utf-8")


def png_url(content: bytes) -> str:
  """A PNG as a data URL."""
  return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def whole_page(title: str, parts: Iterable[Any], *, style: str = "", script: str = "") -> str:
  """A page of its own.

  The script runs by the hash of its text: no other one, however it came into the page, does.
  """
  source = "'none'"
  if script:
    digest = hashlib.sha256(script.encode()).digest()
    source = f"'sha256-{base64.b64encode(digest).decode()}'"
  policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {source}"
  return _FRAME.format(
    policy=policy,
    title=markup(title),
    style=resource("page.css") + style,
    body=joined(parts, "\n"),
    script=f"<script>{script}</script>\n" if script else "",
  )
