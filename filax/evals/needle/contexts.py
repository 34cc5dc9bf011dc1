# SPDX-License-Identifier: Apache-2.0
"""Contexts: where needles are in the haystack, as rows of the visual table."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates
from filax.evals.needle.visuals import NeedleVisuals
from filax.infer.prefix import IndexedTokens
from filax.infer.processor import Processor
from filax.spec import TEXT

_HALF = 1e-9  # depth · N may fall below a whole number by rounding.


def single_hop_rows(
  visuals: NeedleVisuals, frames: int, depth: float, needle: np.ndarray
) -> np.ndarray:
  """A needle before haystack frame int(depth · frames); all frames stay."""
  place = visuals.place(frames_before(frames, depth))
  end = visuals.place(frames)
  return np.concatenate([visuals.haystack[:place], needle, visuals.haystack[place:end]])


def frames_before(frames: int, depth: float) -> int:
  """The haystack frames before a needle."""
  return int(depth * frames + _HALF)


def multi_hop_rows(
  visuals: NeedleVisuals, frames: int, pictures: Sequence[np.ndarray]
) -> np.ndarray:
  """Pictures spread evenly over a haystack.

  The first one begins, the last one ends; all frames stay. Slices need not begin at clips: the
  tokens of a clip may be cut.
  """
  rows = [pictures[0]]
  borders = multi_hop_borders(frames, len(pictures))
  for start, stop, picture in zip(
    borders[:-1],
    borders[1:],
    pictures[1:],
    strict=True,
  ):
    rows.append(visuals.haystack[visuals.place(start) : visuals.place(stop)])
    rows.append(picture)
  return np.concatenate(rows)


def multi_hop_borders(frames: int, pictures: int) -> list[int]:
  """The haystack frames before each picture.

  Picture j follows frame int(j · frames / (pictures - 1)).
  """
  if pictures < 2:
    raise ValueError(f"{pictures} picture is not a chain. Give 2 pictures or more.")
  interval = frames / (pictures - 1)
  borders = [int(place * interval) for place in range(pictures - 1)]
  return [*borders, frames]


@dataclasses.dataclass(frozen=True, eq=False)
class PromptFrame:
  """The words of a prompt: before its video, and after it."""

  before: IndexedTokens
  question: IndexedTokens
  answer: list[int]


def prompt_frame(
  processor: Processor,
  question: str,
  answer: str,
) -> PromptFrame:
  """The words around a video, with the checkpoint's template.

  No newline stands between video and question unless the question begins with one, and no sentence
  about times. Raises ValueError for a template without questions.
  """
  template = processor.data["template"]
  if template == "plain":
    raise ValueError(
      "The checkpoint was trained on captions: its config.data.template=plain asks no questions. "
      "Give a checkpoint of a later stage."
    )
  turns = (Turn("user", (0, question)), Turn("assistant", (answer,)))
  encoded = templates.encode_conversation(
    Sample("needle", turns),
    processor.tokenizer,
    template=template,
    system=processor.data["system"],
    visuals=[templates.VisualText(1)],
  )
  ((start, stop),) = encoded.spans
  (places,) = np.nonzero(encoded.answers)
  if not len(places):
    raise ValueError(f"The answer {answer!r} has no tokens.")
  first = int(places[0])
  return PromptFrame(
    as_text(encoded.tokens[:start]),
    as_text(encoded.tokens[stop:first]),
    encoded.tokens[places].tolist(),
  )


def as_text(ids: np.ndarray) -> IndexedTokens:
  """Text as it stands in a prompt."""
  return IndexedTokens(np.asarray(ids, np.int32), np.full(len(ids), TEXT, np.int32))


def as_visuals(rows: np.ndarray) -> IndexedTokens:
  """Visual tokens as they stand in a prompt."""
  return IndexedTokens(np.zeros(len(rows), np.int32), rows.astype(np.int32))
