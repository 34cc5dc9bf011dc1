# SPDX-License-Identifier: Apache-2.0
"""Where the turns of a record show its media: in the places of <image> and <video>."""

from collections.abc import Iterator, Mapping, Sequence
import re

from data_pipelines.manifest.excerpts import shown
from data_pipelines.manifest.report import RecordError, Report
from data_pipelines.sample import IMAGE, VIDEO, Timeline, Turn

TAG = re.compile(f"{IMAGE}|{VIDEO}")
NOISE = "QA_GT_caption_based_noisy"  # Left in VideoInstruct-100K; LLaVA's training drops it.
# Of other software: "<Image>", "<image_1>", "<|video_pad|>", "<VideoHere>".
_OTHER_TAG = re.compile(
  r"<\|?(image|video|vision)[ _]?(pad|start|end|here|placeholder|token|[0-9]+)?\|?>", re.IGNORECASE
)


def place(
  turns: Sequence[tuple[str, str]], media: Mapping[str, Sequence[Timeline]], report: Report
) -> tuple[tuple[Turn, ...], tuple[Timeline, ...]]:
  """The turns (role, text) with their media, and the media in the order in which they are shown.

  <image> is the place of the next medium, <video> of the next one if it is a video. With lists
  under both image and video, each tag takes from its own list. Tags beyond the media are ordinary
  text. Raises RecordError for media without a place.
  """
  count = sum(map(len, media.values()))
  if count and not any(TAG.search(text) for text in _asked(turns)):
    turns = _prepended(turns, media)
    report.prepended += 1
  queues = {key: list(timelines) for key, timelines in media.items()}
  placed = []
  ordered: list[Timeline] = []
  surplus = False
  for role, text in turns:
    parts = [text]
    if role == "user":
      tags = TAG.findall(text)
      taken = [_take(tag, queues, ordered) for tag in tags]
      parts = _parts(text, taken)
      surplus |= None in taken
    if count:
      parts = [p.replace(NOISE, "") if isinstance(p, str) else p for p in parts]
    placed.append(Turn(role, tuple(part for part in parts if part != "")))
  if len(ordered) < count:
    raise RecordError(_without_place(turns, media, len(ordered)))
  report.surplus += surplus
  return tuple(placed), tuple(ordered)


def asks_for_media(turns: Sequence[tuple[str, str]], anywhere: bool) -> str:
  """The tag in the human's turns that can only be the place of a medium; "" for none.

  A tag inside a sentence may be what the sentence is about, so it counts only with `anywhere`.
  """
  for text in _asked(turns):
    for match in TAG.finditer(text):
      before = text[: match.start()].rstrip(" \t")
      behind = text[match.end() :].lstrip(" \t")
      if anywhere or before == "" or behind == "" or (before[-1] == behind[0] == "\n"):
        return match[0]
  return ""


def _asked(turns: Sequence[tuple[str, str]]) -> Iterator[str]:
  return (text for role, text in turns if role == "user")


def _prepended(
  turns: Sequence[tuple[str, str]], media: Mapping[str, Sequence[Timeline]]
) -> list[tuple[str, str]]:
  """The turns with a tag a medium, each on its own line, before the first question."""
  if len(media) > 1:
    raise RecordError(_mixed(media))
  for text in _asked(turns):
    if match := _OTHER_TAG.search(text):
      raise RecordError(f"shows a place by {shown(match[0])}; write {IMAGE} or {VIDEO}")
  tags = f"{IMAGE}\n" * sum(map(len, media.values()))
  prepended = list(turns)
  for number, (role, text) in enumerate(turns):
    if role == "user":
      prepended[number] = role, tags + text
      break
  return prepended


def _take(tag: str, queues: Mapping[str, list[Timeline]], ordered: list[Timeline]) -> int | None:
  """Takes the next medium of a tag; returns its number, None for a tag that is ordinary text."""
  key = next(iter(queues), "")
  if len(queues) > 1:
    key = "image" if tag == IMAGE else "video"
  queue = queues.get(key)
  if not queue or (tag == VIDEO and queue[0][0].kind == "image"):
    return None
  ordered.append(queue.pop(0))
  return len(ordered) - 1


def _parts(text: str, taken: Sequence[int | None]) -> list[str | int]:
  """Splits a turn at its tags; those that took no medium stay in the text.

  LLaVA's rule: the only tag of a turn that does not begin with it is moved to the front, with a
  newline between it and the rest, which is stripped.
  """
  if len(taken) == 1 and taken[0] is not None and TAG.match(text) is None:
    rest = TAG.sub("", text).strip()
    return [taken[0], "\n" + rest] if rest else [taken[0]]
  parts: list[str | int] = []
  begin = 0
  for match, number in zip(TAG.finditer(text), taken, strict=True):
    if number is not None:
      parts += [text[begin : match.start()], number]
      begin = match.end()
  return [*parts, text[begin:]]


def _without_place(
  turns: Sequence[tuple[str, str]], media: Mapping[str, Sequence[Timeline]], shown_media: int
) -> str:
  """Why not all media of a record are shown."""
  if len(media) > 1:
    return _mixed(media)
  count = sum(map(len, media.values()))
  if shown_media == 0:
    return f"has {VIDEO} but no video: {count} media in {next(iter(media))}, without an {IMAGE}"
  reason = f"has {count} media but {shown_media} {IMAGE}"
  if any(VIDEO in text for text in _asked(turns)):
    return f"{reason} or {VIDEO} that can show one"
  return reason


def _mixed(media: Mapping[str, Sequence[Timeline]]) -> str:
  """Why a record with pictures and videos is refused."""
  return (
    f"has image and video; use one of them (scenes can mix kinds), or write {len(media['image'])} "
    f"{IMAGE} and {len(media['video'])} {VIDEO} where they stand"
  )
