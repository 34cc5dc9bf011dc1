# SPDX-License-Identifier: Apache-2.0
"""Inserts a record's media into its turns, at <image> and <video>."""

from collections.abc import Mapping, Sequence
import re

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import IMAGE, VIDEO, Timeline, Turn

TurnText = tuple[str, str]  # (role, text).
MediaByKey = Mapping[str, Sequence[Timeline]]  # By "image", "video" or "scenes".

TAG = re.compile(f"{IMAGE}|{VIDEO}")
NOISE = "QA_GT_caption_based_noisy"  # Left in VideoInstruct-100K; LLaVA's training drops it.
# Tags of other software: "<Image>", "<image_1>", "<|video_pad|>", "<VideoHere>".
_OTHER_TAG = re.compile(
  r"<\|?(image|video|vision)[ _]?(pad|start|end|here|placeholder|token|[0-9]+)?\|?>", re.IGNORECASE
)


def place_media(
  turns: Sequence[TurnText], media: MediaByKey, report: ManifestReport
) -> tuple[tuple[Turn, ...], tuple[Timeline, ...]]:
  """The turns with their media, and the media in order.

  <image> stands for the next medium, <video> for the next medium if it is a video. With lists under
  both image and video, each tag takes from its own list. Tags beyond the media are ordinary text.
  Raises RecordError for media without a tag.
  """
  count = _count(media)
  if count and not any(map(TAG.search, _user_texts(turns))):
    turns = _prepended(turns, media)
    report.prepended += 1
  queues = {key: list(timelines) for key, timelines in media.items()}
  placed = []
  ordered: list[Timeline] = []
  surplus = False
  for role, text in turns:
    parts: list[str | int] = [text]
    if role == "user":
      numbers = [_take(tag, queues, ordered) for tag in TAG.findall(text)]
      parts = _parts(text, numbers)
      surplus |= None in numbers
    if count:
      parts = _without_noise(parts)
    placed.append(Turn(role, tuple(filter(_is_part, parts))))
  if len(ordered) < count:
    raise RecordError(_without_place(turns, media, len(ordered)))
  report.surplus += surplus
  return tuple(placed), tuple(ordered)


def _count(media: MediaByKey) -> int:
  return sum(map(len, media.values()))


def _without_noise(parts: Sequence[str | int]) -> list[str | int]:
  cleaned = []
  for part in parts:
    if isinstance(part, str):
      part = part.replace(NOISE, "")
    cleaned.append(part)
  return cleaned


def _is_part(part: str | int) -> bool:
  """False for an empty text."""
  return part != ""


def asks_for_media(turns: Sequence[TurnText], anywhere: bool) -> str:
  """The first tag of the human that requires a medium, or "".

  A sentence may be about the tag itself, so a tag inside a sentence counts only with `anywhere`.
  """
  for text in _user_texts(turns):
    for match in TAG.finditer(text):
      before = text[: match.start()].rstrip(" \t")
      behind = text[match.end() :].lstrip(" \t")
      stands_alone = not before or not behind or before[-1] == behind[0] == "\n"
      if anywhere or stands_alone:
        return match[0]
  return ""


def _user_texts(turns: Sequence[TurnText]) -> list[str]:
  return [text for role, text in turns if role == "user"]


def _prepended(turns: Sequence[TurnText], media: MediaByKey) -> list[TurnText]:
  """The turns with one line <image> per medium before the first question."""
  if len(media) > 1:
    raise RecordError(_mixed(media))
  check_other_tags(turns)
  tags = f"{IMAGE}\n" * _count(media)
  prepended = list(turns)
  for number, (role, text) in enumerate(turns):
    if role == "user":
      prepended[number] = role, tags + text
      break
  return prepended


def check_other_tags(turns: Sequence[TurnText]) -> None:
  """Raises RecordError for a tag of other software in a human's turn."""
  for text in _user_texts(turns):
    match = _OTHER_TAG.search(text)
    if match is not None:
      raise RecordError(f"shows a place by {excerpt(match[0])}; write {IMAGE} or {VIDEO}")


def _take(tag: str, queues: Mapping[str, list[Timeline]], ordered: list[Timeline]) -> int | None:
  """Takes the next medium of a tag; returns its number.

  None for a tag that is ordinary text.
  """
  key = next(iter(queues), "")
  if len(queues) > 1:
    key = "image" if tag == IMAGE else "video"
  queue = queues.get(key)
  if not queue or (tag == VIDEO and queue[0][0].kind == "image"):
    return None
  ordered.append(queue.pop(0))
  return len(ordered) - 1


def _parts(text: str, numbers: Sequence[int | None]) -> list[str | int]:
  """Splits a turn at its tags into texts and media numbers.

  A tag with number None stays in the text. LLaVA's rule: a turn's only tag is moved to the front,
  followed by a newline and the stripped text, unless the turn begins with it.
  """
  if not numbers:
    return [text]
  if len(numbers) == 1 and numbers[0] is not None and TAG.match(text) is None:
    rest = TAG.sub("", text).strip()
    if not rest:
      return [numbers[0]]
    return [numbers[0], "\n" + rest]
  parts: list[str | int] = []
  begin = 0
  for match, number in zip(TAG.finditer(text), numbers, strict=True):
    if number is not None:
      parts += [text[begin : match.start()], number]
      begin = match.end()
  return [*parts, text[begin:]]


def _without_place(turns: Sequence[TurnText], media: MediaByKey, shown_media: int) -> str:
  """The error message for a record with unused media."""
  if len(media) > 1:
    return _mixed(media)
  count = _count(media)
  if shown_media == 0:
    return f"has {VIDEO} but no video: {count} media in {next(iter(media))}, without an {IMAGE}"
  reason = f"has {count} media but {shown_media} {IMAGE}"
  for text in _user_texts(turns):
    if VIDEO in text:
      return f"{reason} or {VIDEO} that can show one"
  return reason


def _mixed(media: MediaByKey) -> str:
  """The error message for a record with unplaced pictures and videos."""
  return (
    f"has image and video; use one of them (scenes can mix kinds), or write {len(media['image'])} "
    f"{IMAGE} and {len(media['video'])} {VIDEO} where they stand"
  )
