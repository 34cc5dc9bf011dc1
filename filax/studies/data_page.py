# SPDX-License-Identifier: Apache-2.0
"""A page that shows what a run trains on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from data_pipelines.tools.view import DataView, LeftOut, ShownPicture, ShownRow, ShownSample
from data_pipelines.tools.view_tokens import Piece
from filax.evals import html_page
from filax.evals.html_page import Markup, card, counted, element, joined, note
from filax.evals.thumbnails import jpeg_url

SIDE = 112  # Pixels of a shown picture.
MOST_TOKENS = 3000  # The most tokens of a sample's text that are shown.
SERIES = 6  # Colours.
SETTINGS = (
  "template",
  "system",
  "labels",
  "time_prompt",
  "sampling",
  "resize",
  "images",
  "rows",
  "packing",
  "tokenizer",
)
_LINE = "↵"
STYLE = """
.sample { margin-bottom: 16px; }
.sample h3 { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; }
.sample h3 .faint { font-weight: 400; font-size: 14px; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 8px;
  margin: 10px 0 14px; }
.frames figure { margin: 0; }
.frames img { display: block; width: 100%; border-radius: 6px; background: var(--track); }
.frames figcaption { font-size: 12px; color: var(--faint); margin-top: 2px;
  font-variant-numeric: tabular-nums; }
.tokens { font: 14px/1.9 ui-monospace, SFMono-Regular, Menlo, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 480px; overflow-y: auto; margin: 0; }
.tokens span.token { border-bottom: 2px solid var(--line); margin-right: 1px; }
.tokens .learned span.token, .legend .learned { background: color-mix(in srgb, var(--good) 20%,
  transparent); border-bottom-color: var(--good); }
.chip { border: 1px solid var(--line); border-radius: 6px; padding: 0 5px; font-size: 12.5px;
  color: var(--faint); background: var(--track); margin: 0 1px; white-space: nowrap; }
.chip.learned { background: color-mix(in srgb, var(--good) 20%, transparent); color: var(--good);
  border-color: var(--good); }
.visual { border-radius: 6px; padding: 1px 8px; font-size: 12.5px; color: var(--accent);
  background: color-mix(in srgb, var(--accent) 16%, transparent); white-space: nowrap; }
.legend .chip, .legend .visual { display: inline-block; }
.packed + .packed { margin-top: 12px; }
.packed .lane { display: grid; grid-template-columns: 76px minmax(0, 1fr) 190px; gap: 12px;
  align-items: center; margin-top: 6px; font-size: 14px; }
.packed .track { display: flex; height: 20px; background: var(--track); border-radius: 5px;
  overflow: hidden; }
.packed .track div { min-width: 1px; box-shadow: inset -1px 0 0 var(--card); }
.packed .value { text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 700px) {
  .packed .lane { grid-template-columns: 1fr auto; gap: 2px 10px; }
  .packed .track { grid-column: 1 / -1; grid-row: 2; }
}
"""


def data_page(view: DataView, manifest: str, config: str) -> str:
  """The HTML of a page about the data of a config."""
  parts: list[Any] = [
    element("h1", "What is trained on"),
    note(f"{manifest} with {config}"),
    _figures(view),
    html_page.heading("Left out"),
    *_left_out(view.left_out),
    html_page.heading("Rows"),
    note(
      "The first rows of epoch 0: each colour is a sample. Frames and tokens are those that "
      "training takes."
    ),
    *map(_row, view.rows),
    html_page.heading("Samples"),
    _legend(),
    *map(_sample, view.samples),
    html_page.heading("Settings"),
    html_page.words_table(_settings(view.plan.data)),
  ]
  return html_page.whole_page(f"Data: {manifest}", parts, style=STYLE)


def _figures(view: DataView) -> Markup:
  report = view.plan.report
  cards = [
    html_page.number_card("samples", f"{report['samples']:,}", f"{view.not_learned:,} not learned"),
    html_page.number_card(
      "rows of an epoch", f"{report['rows']:,}", f"{report['samples_per_row']:.2f} samples a row"
    ),
    html_page.number_card("tokens used", _share(report["token_fill"]), _mean(report, "tokens")),
    html_page.number_card("frames used", _share(report["frame_fill"]), _mean(report, "frames")),
    html_page.number_card("media", f"{report['media']:,}", f"{report['unreadable']:,} unreadable"),
  ]
  return html_page.card_row(cards)


def _share(value: float) -> str:
  return f"{100 * value:.1f} %"


def _mean(report: Mapping[str, Any], name: str) -> str:
  return f"{report[f'mean_{name}']:,.0f} {name} a sample"


def _left_out(reasons: Sequence[LeftOut]) -> Iterator[Markup]:
  if not reasons:
    yield note("Nothing: every record is learned.")
  for reason in reasons:
    title = f"{reason.reason}: {reason.count:,}"
    if not reason.examples:
      yield card(title)
      continue
    parts = [html_page.bullet_list(reason.examples)]
    rest = reason.count - len(reason.examples)
    if rest > 0:
      parts.append(note(f"and {rest:,} more"))
    yield html_page.folded(title, *parts)


def _row(row: ShownRow) -> Markup:
  shape = row.shape
  rooms = dict(tokens=shape.length, frames=shape.frames, images=shape.images)
  lanes = []
  for name, room in rooms.items():
    if room:
      lanes.append(_lane(name, row, room))
  segments = f"{counted(len(row.segments), 'sample')} of at most {shape.segments}"
  title = element("h3", f"Row {row.number} ", element("span", segments, class_="faint small"))
  return element("div", title, *lanes, class_="card packed")


def _lane(name: str, row: ShownRow, room: int) -> Markup:
  fills = []
  used = 0
  for number, segment in enumerate(row.segments):
    need = getattr(segment, name)
    used += need
    if need:
      style = f"width:{100 * need / room:.3f}%"
      tip = f"{segment.origin}: {need:,} {name}"
      fills.append(element("div", class_=f"series{number % SERIES}", style=style, title=tip))
  value = f"{used:,} of {room:,} · {100 * used / room:.1f} %"
  return element(
    "div",
    element("span", "pictures" if name == "images" else name),
    element("div", *fills, class_="track"),
    element("span", value, class_="value"),
    class_="lane",
  )


def _legend() -> Markup:
  return element(
    "p",
    element("span", "learned", class_="learned"),
    element("span", "read only"),
    element("span", "<|control|>", class_="chip"),
    element("span", "visual tokens", class_="visual"),
    element("span", "Each underlined piece is a token.", class_="faint"),
    class_="legend",
  )


def _sample(sample: ShownSample) -> Markup:
  facts = f"{sample.tokens:,} tokens, {sample.learned:,} learned"
  if sample.times:
    facts += f", {counted(len(sample.times), 'frame')}"
  if sample.images:
    facts += f", {counted(sample.images, 'picture')}"
  name = sample.id
  if name in ("", sample.origin):
    name = f"Sample {sample.number}"
  parts = [
    element("h3", element("span", name), element("span", facts, class_="faint")),
    element(
      "p", f"{sample.origin} · {', '.join(sample.media) or 'text alone'}", class_="faint small"
    ),
  ]
  if sample.problem:
    parts.append(element("p", "Not learned: ", sample.problem, class_="bad"))
  if sample.pictures:
    parts.append(element("div", *map(_figure, sample.pictures), class_="frames"))
  parts += _times(sample)
  parts.append(element("pre", *_tokens(sample.pieces), class_="tokens"))
  return element("div", *parts, class_="card sample")


def _figure(picture: ShownPicture) -> Markup:
  small = Image.fromarray(picture.pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
  image = element("img", src=jpeg_url(small), alt=picture.caption)
  return element("figure", image, element("figcaption", picture.caption))


def _times(sample: ShownSample) -> Iterator[Markup]:
  """The times of all frames, where not all of them are shown."""
  if len(sample.times) > len(sample.pictures):
    title = f"The times of all {len(sample.times):,} frames"
    yield html_page.folded(title, ", ".join(f"{second:.2f}" for second in sample.times))


def _tokens(pieces: Iterable[Piece]) -> Iterator[Markup]:
  written = 0
  hidden = 0
  for piece in pieces:
    if piece.kind == "visual":
      words = f"visual {piece.visual + 1} · {counted(piece.size, 'token')}"
      yield element("span", words, class_="visual")
      continue
    if written > MOST_TOKENS:
      hidden += piece.size
      continue
    written += piece.size
    if piece.kind == "control":
      learned = " learned" if piece.learned else ""
      yield element("span", piece.texts[0], class_=f"chip{learned}")
    else:
      spans = [element("span", _visible(text), class_="token") for text in piece.texts]
      yield element("span", *spans, class_="learned" if piece.learned else "read")
  if hidden:
    yield note(f"{counted(hidden, 'token')} more are not shown.")


def _visible(text: str) -> Markup:
  """The text of a token with its line ends visible."""
  return joined([text.replace("\n", f"{_LINE}\n")])


def _settings(data: Mapping[str, Any]) -> dict[str, str]:
  return {name: html_page.setting_text(data[name]) for name in SETTINGS if name in data}
