# SPDX-License-Identifier: Apache-2.0
"""Parts of the page as HTML: contact sheet, heat strip, phases, sentences.

An element with data-seconds moves the player there (player.js). All text is escaped.
"""

from collections.abc import Sequence

import numpy as np

from filax.evals.html_page import Markup, element, joined
from filax.infer.contact_sheet import clock
from filax.serve.page.looks import FrameGroups, SheetFrame, VideoLook
from filax.serve.requests import Usage

MOST_MARKS = 160  # Of a heat strip; more would be narrower than a pixel on a phone.
NOTHING = Markup("")


def sentence(text: str, kind: str = "note") -> Markup:
  """A line about what happens; kind is "note" or "error"."""
  role = "alert" if kind == "error" else "status"
  return element("p", text, class_=f"filax-{kind}", role=role)


def time_text(seconds: float, duration: float) -> str:
  """A moment of a video: "1:15", "7.3 s" in a short one."""
  return clock(seconds) if duration >= 60 else f"{seconds:.1f} s"


def contact_sheets(look: VideoLook) -> Markup:
  """The frames of the model's groups beside as many at even times.

  `group_heats` draws bars below the groups, so that an answer need not send the pictures again.
  """
  title = f"Chosen by {look.selector}" if look.uniform else f"Frames shown ({look.selector})"
  sheets = [_sheet(title, look.chosen, look, _has_bars(look))]
  if look.uniform:
    sheets.append(_sheet("Uniform sampling", look.uniform, look, has_bars=False))
  return element("div", *sheets, class_="filax-sheets")


def _has_bars(look: VideoLook) -> bool:
  """Whether all groups are drawn, so that each has a bar."""
  return len(look.chosen) == len(look.times)


def group_heats(shares: np.ndarray) -> Markup:
  """The style that gives the bars of contact sheets their length.

  shares [G]: the attention on each group.
  """
  heats = shares / max(float(shares.max()), 1e-9)
  lengths = [f"--heat{place}:{heat:.3f}" for place, heat in enumerate(heats)]
  return element("style", f".filax-sheets{{{';'.join(lengths)}}}")


def _sheet(title: str, groups: FrameGroups, look: VideoLook, has_bars: bool) -> Markup:
  """One selection: a heading, then its groups."""
  count = len(look.times)
  size = len(groups[0]) if groups else 0
  remark = f"{count} groups of {size} frames" if size > 1 else f"{count} frames"
  if len(groups) < count:
    remark += f", {len(groups)} of them drawn"
  cells = []
  for place, frames in enumerate(groups):
    bar = NOTHING
    if has_bars:
      bar = element("i", style=f"--heat:var(--heat{place})", class_="heat")
    cells.append(_group(frames, bar, look.duration))
  heading = element("h3", title, " ", element("span", remark, class_="faint"))
  return element("section", heading, element("div", *cells, class_="groups"), class_="sheet")


def _group(frames: Sequence[SheetFrame], bar: Markup, duration: float) -> Markup:
  """The frames of a group, which move the player, and its bar."""
  pictures = []
  for frame in frames:
    text = time_text(frame.seconds, duration)
    picture = element("img", src=frame.url, alt="", loading="lazy")
    pictures.append(
      element(
        "button",
        picture,
        element("span", text),
        type="button",
        data_seconds=f"{frame.seconds:.3f}",
        aria_label=f"Go to {text}",
      )
    )
  return element("div", element("div", *pictures, class_="frames"), bar, class_="group")


def heat_strip(look: VideoLook, shares: np.ndarray | None = None) -> Markup:
  """A time line with a bar for every frame shown.

  shares [G]: the attention on each group, which is the height of its bars; without it all bars are
  low, and only say where the frames are. It also gives the bars of the contact sheets their length.
  """
  marks = _marks(look, shares)
  highest = max((share for _, share in marks), default=0.0)
  bars = []
  for second, share in marks:
    bars.append(_bar(second, share, highest, look.duration, shares is not None))
  line = element("div", element("i", class_="playhead"), *bars, class_="line")
  ends = element(
    "div", element("span", "0"), element("span", time_text(look.duration, look.duration))
  )
  legend = "Frames shown to the model. A click moves the player there."
  heats = NOTHING
  if shares is not None:
    if _has_bars(look):
      heats = group_heats(shares)
    top = look.times[int(np.argmax(shares))]
    seconds = time_text(top[len(top) // 2], look.duration)
    legend = (
      f"Height: attention of the answer on each group of frames, mean over layers. Most, "
      f"{shares.max():.0%}, on the group around {seconds}."
    )
  return element(
    "div",
    line,
    ends,
    element("p", legend, class_="faint"),
    heats,
    class_="filax-strip",
    data_duration=f"{look.duration:.3f}",
  )


def _marks(look: VideoLook, shares: np.ndarray | None) -> list[tuple[float, float]]:
  """(second, share of its group) of the frames shown, at most MOST_MARKS.

  Where there are more, each part of the video keeps its frame with the largest share.
  """
  marks: list[tuple[float, float]] = []
  for place, seconds in enumerate(look.times):
    share = 0.0 if shares is None else float(shares[place])
    marks.extend((second, share) for second in dict.fromkeys(seconds))
  marks.sort()
  if len(marks) <= MOST_MARKS:
    return marks
  strongest = []
  for part in np.array_split(np.arange(len(marks)), MOST_MARKS):
    strongest.append(max((marks[place] for place in part), key=_share_of))
  return strongest


def _share_of(mark: tuple[float, float]) -> float:
  return mark[1]


def _bar(second: float, share: float, highest: float, duration: float, measured: bool) -> Markup:
  """A bar at a second of the time line."""
  place = 100 * min(1.0, second / duration) if duration > 0 else 0.0
  heat = share / highest if highest > 0 else 0.0
  title = time_text(second, duration)
  if measured:
    title += f", {share:.1%} of the attention on its group"
  return element(
    "button",
    type="button",
    style=f"--place:{place:.2f}%;--heat:{heat:.3f}",
    title=title,
    aria_label=f"Go to {title}",
    data_seconds=f"{second:.3f}",
  )


def phase_table(usage: Usage, attention_seconds: float | None = None) -> Markup:
  """Tokens and seconds of each phase of an answer."""
  seconds = usage.seconds
  decode = seconds.get("decode", 0.0)
  rate = f"{usage.answer_tokens / decode:,.1f} a second" if decode > 0 else ""
  shown = sum(video.frames for video in usage.videos)
  cached = bool(usage.videos) and all(video.cached for video in usage.videos)
  rows = [
    ("wait in the queue", "", seconds.get("queue")),
    ("read the video", f"{shown:,} frames shown", seconds.get("read")),
    (
      "encode",
      f"{usage.visual_tokens:,} visual tokens{', kept from before' if cached else ''}",
      seconds.get("encode"),
    ),
    ("read the prompt", f"{usage.prompt_tokens:,} tokens", seconds.get("prefill")),
    ("answer", f"{usage.answer_tokens:,} tokens {_bracketed(rate)}", decode),
  ]
  if attention_seconds is not None:
    rows.append(("measure attention", "", attention_seconds))
  lines = []
  for phase, amount, value in rows:
    duration = "" if value is None else f"{value:.2f} s"
    cells = [element("th", phase), element("td", amount), element("td", duration, class_="number")]
    lines.append(element("tr", *cells))
  return element("table", element("tbody", *lines), class_="filax-phases")


def _bracketed(text: str) -> str:
  return f"({text})" if text else ""


def player_parts(examples: Sequence[tuple[str, str]]) -> Markup:
  """Buttons for examples: (video's name, question) each."""
  if not examples:
    return NOTHING
  buttons = []
  for number, (name, question) in enumerate(examples):
    text = element("b", question)
    label = joined([text, element("span", name)])
    buttons.append(element("button", label, type="button", data_example=str(number)))
  heading = element("p", "Or try a video of the demo, which was not trained on:", class_="faint")
  return joined([heading, element("div", *buttons, class_="examples")])
