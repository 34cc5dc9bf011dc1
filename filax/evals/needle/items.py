# SPDX-License-Identifier: Apache-2.0
"""Needles with their questions, in the released files and in custom ones.

  single hop  {"question": …, "answer": "A", "image": "single/a.jpg"}  (VideoChat-Flash)
              {"prompt": …, "answer": "Yellow", "path": "a.png"}       (LongVA)
  multi hop   {"images": […], "question1": …, "answer1": …, "question2": …, "answer2": …}

Optional fields:

  id
  chance  the score of guessing
  hints   multi hop only: a text per picture to write onto it, "" for none
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import re
from typing import Any, NamedTuple

from filax.evals.kit import BadAnnotation, MissingAnnotation

SINGLE_FILE = "niah-coco-singlehop_20.json"
MULTI_FILE = "niah-coco-multihop-100.json"
PUBLISHER = (
  "VideoChat-Flash has it in vision_niah/ of its repository, and its pictures and its haystack in "
  "the data set OpenGVLab/NIAH-Video."
)
PICTURES_PUBLISHER = (
  "--images names the folder of the pictures; those of the released needles are in the data set "
  "OpenGVLab/NIAH-Video."
)
FINDING = "CAP"  # Names of the two questions of a chain, as in the paper.
ANSWERING = "QA"
_QUESTION = ("question", "prompt")
_PICTURE = ("image", "path")
_CHAIN = ("images", "question1", "answer1", "question2", "answer2")
_OPTION = re.compile(r"^\s*(?:Options: ?)?(?:\(([A-Z])\)|([A-Z])\.) ", re.MULTILINE)


class NeedleQuestion(NamedTuple):
  """A question about the needle."""

  name: str  # CAP or QA; "" for the only question.
  text: str
  answer: str
  chance: float | None  # The score of guessing, if known.


@dataclasses.dataclass(frozen=True)
class NeedleItem:
  """Pictures to hide, and the questions about them."""

  id: str
  pictures: tuple[str, ...]  # In the order of the video.
  questions: tuple[NeedleQuestion, ...]
  needle: int = 0  # The place of the asked picture in `pictures`.
  hints: tuple[str, ...] = ()  # A text to write onto each picture.

  @property
  def needle_picture(self) -> str:
    """The picture that answers the questions."""
    return self.pictures[self.needle]


def find_file(needles: str | os.PathLike, multi_hop: bool) -> str:
  """The needle file at a path.

  In a folder, the released one or the only one. Raises MissingAnnotation if there is none.
  """
  path = pathlib.Path(needles)
  if path.is_file():
    return str(path)
  name = MULTI_FILE if multi_hop else SINGLE_FILE
  for candidate in sorted(path.rglob(name)):
    return str(candidate)
  others = sorted(path.glob("*.json"))
  if len(others) == 1:
    return str(others[0])
  raise MissingAnnotation(f"{path / name} is missing. {PUBLISHER}")


def read_items(path: str | os.PathLike) -> list[NeedleItem]:
  """The items of a needle file. Raises BadAnnotation for other fields."""
  try:
    records = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except ValueError as error:
    raise BadAnnotation(f"{os.fspath(path)} is not JSON: {error}.") from None
  return parse_items(records, os.fspath(path))


def parse_items(records: Any, path: str) -> list[NeedleItem]:
  """The items of records. Raises BadAnnotation for other fields."""
  if not isinstance(records, list) or not records:
    raise BadAnnotation(f"{path} is not a list of needles.")
  items = []
  for number, record in enumerate(records):
    if not isinstance(record, Mapping):
      raise BadAnnotation(f"{path}: record {number} is not an object.")
    if "images" in record:
      items.append(_chain_item(record, number, path))
    else:
      items.append(_single_item(record, number, path))
  if len({len(item.questions) for item in items}) > 1:
    raise BadAnnotation(f"{path} mixes single hop (image) with multi hop (images).")
  ids = [item.id for item in items]
  if len(set(ids)) < len(ids):
    raise BadAnnotation(f"{path}: two needles have one id. Number them, or leave out id.")
  return items


def is_multi_hop(items: Sequence[NeedleItem]) -> bool:
  """Whether the items are chains."""
  return len(items[0].questions) > 1


def option_letters(text: str) -> tuple[str, ...]:
  """The letters of a question's options; () for a free answer."""
  return tuple(bracketed or dotted for bracketed, dotted in _OPTION.findall(text))


def _single_item(
  record: Mapping[str, Any],
  number: int,
  path: str,
) -> NeedleItem:
  text = _text_field(record, _QUESTION, number, path)
  answer = _text_field(record, ("answer",), number, path)
  picture = _text_field(record, _PICTURE, number, path)
  question = NeedleQuestion(
    "",
    text,
    answer,
    _chance(text, record),
  )
  return NeedleItem(
    str(record.get("id", number)),
    (picture,),
    (question,),
  )


def _chain_item(
  record: Mapping[str, Any],
  number: int,
  path: str,
) -> NeedleItem:
  missing = [name for name in _CHAIN if name not in record]
  pictures = tuple(record["images"])
  if missing or len(pictures) < 2 or not all(isinstance(name, str) for name in pictures):
    raise BadAnnotation(
      f"{path}: record {number} needs {', '.join(_CHAIN)}, and 2 images or more; it has "
      f"{', '.join(record)} and {len(pictures)} images."
    )
  questions = []
  for name, place in ((FINDING, 1), (ANSWERING, 2)):
    text = _text_field(
      record,
      (f"question{place}",),
      number,
      path,
    )
    answer = _text_field(
      record,
      (f"answer{place}",),
      number,
      path,
    )
    questions.append(
      NeedleQuestion(
        name,
        text,
        answer,
        _chance(text, record),
      )
    )
  hints = tuple(record.get("hints", ()))
  if hints and len(hints) != len(pictures):
    raise BadAnnotation(f"{path}: record {number} has {len(hints)} hints for its images.")
  return NeedleItem(
    id=str(record.get("id", number)),
    pictures=pictures,
    questions=tuple(questions),
    needle=_needle_place(pictures, number, path),
    hints=hints,
  )


def _needle_place(
  pictures: Sequence[str],
  number: int,
  path: str,
) -> int:
  """The place of the only picture whose name has no niah_ prefix."""
  plain = []
  for place, picture in enumerate(pictures):
    if not pathlib.PurePath(picture).name.startswith("niah_"):
      plain.append(place)
  if len(plain) != 1:
    raise BadAnnotation(
      f"{path}: record {number} has {len(plain)} images without the prefix niah_, but exactly one "
      "is the needle. Name clues and decoys niah_<item>_<place in the chain>_<name>."
    )
  return plain[0]


def _text_field(
  record: Mapping[str, Any],
  names: Sequence[str],
  number: int,
  path: str,
) -> str:
  """The first of these fields that is a text."""
  for name in names:
    if isinstance(record.get(name), str) and record[name]:
      return record[name]
  raise BadAnnotation(
    f"{path}: record {number} has no text {' or '.join(names)}; its fields are "
    f"{', '.join(map(str, record))}."
  )


def _chance(text: str, record: Mapping[str, Any]) -> float | None:
  """The score of guessing: as stated, or one of the options."""
  if "chance" in record:
    return float(record["chance"])
  letters = option_letters(text)
  return 1 / len(letters) if letters else None
