# SPDX-License-Identifier: Apache-2.0
"""Stages, kept counts and static lengths of visual dropout.

A stage (layer, kind, ratio) drops visual tokens after `layer` decoder layers. Of the N visual
tokens of a sample, int(N · ratio) remain in the following layers. The kind "uniform" keeps evenly
spaced tokens. The kind "attention" keeps the tokens that receive the most attention from the query
positions.

Host and model both use this file; it needs only NumPy. In shapes, S is the number of segments of a
row.
"""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np

from filax.spec.batch import RowShape, VisualLayout

KINDS = ("uniform", "attention")
QUERIES = ("released", "answers")
KNOB = "config.model.llm.dropout"
MULTIPLE = 1024  # Shortened rows are multiples of this, as devices and kernel blocks need.


@dataclasses.dataclass(frozen=True)
class Stage:
  """A drop of visual tokens after `layer` decoder layers.

  `ratio` of the original count remains.
  """

  layer: int
  kind: str
  ratio: float


Stages = tuple[Stage, ...]

# Table 7 of VideoChat-Flash (arXiv:2501.00574), for 28 layers. Released models run with "off".
PRESETS = {
  "off": (),
  "uniform0_attention": ((4, "uniform", 0.75), (18, "attention", 0.25)),
  "attention": ((4, "attention", 0.75), (18, "attention", 0.25)),
  "uniform_4": ((4, "uniform", 0.5),),
  "attention_4": ((4, "attention", 0.5),),
  "uniform_18": ((18, "uniform", 0.5),),
  "attention_18": ((18, "attention", 0.5),),
}


def parse_stages(dropout: str | Sequence, depth: int) -> Stages:
  """The stages of config.model.llm.dropout.

  dropout: the name of a preset, ((layer, kind, ratio), ...), or the same as a string such as
  "4:uniform:0.75,18:attention:0.25", with "," or "+" between stages. Raises ValueError for an
  unknown kind, unless layers increase within 1..depth - 1, and unless ratios decrease from below 1.
  """
  entries = _entries(dropout) if isinstance(dropout, str) else dropout
  stages = []
  layer = 0
  ratio = 1.0
  for entry in entries:
    if len(entry) != 3:
      raise ValueError(f"{KNOB} has the entry {entry!r}. Write each stage as (layer, kind, ratio).")
    stage = Stage(*entry)
    _check_stage(stage, layer, ratio, depth)
    stages.append(stage)
    layer = stage.layer
    ratio = stage.ratio
  return tuple(stages)


def _entries(dropout: str) -> Sequence:
  """(layer, kind, ratio) of each stage in a preset or string."""
  if ":" in dropout:
    return [_entry(text) for text in dropout.replace("+", ",").split(",")]
  if dropout not in PRESETS:
    raise ValueError(
      f"{KNOB}={dropout!r} is unknown. Set it to one of {', '.join(PRESETS)}, or to "
      "layer:kind:ratio,..."
    )
  return PRESETS[dropout]


def _entry(entry: str) -> tuple[int, str, float]:
  """ "4:uniform:0.75" as (4, "uniform", 0.75)."""
  try:
    layer, kind, ratio = entry.split(":")
    return int(layer), kind, float(ratio)
  except ValueError:
    raise ValueError(
      f"{KNOB} has the entry {entry!r}. Write each stage as layer:kind:ratio."
    ) from None


def _check_stage(stage: Stage, layer: int, ratio: float, depth: int) -> None:
  """Raises ValueError for an invalid stage.

  `layer` and `ratio` belong to the previous stage, or are 0 and 1.
  """
  if stage.kind not in KINDS:
    raise ValueError(f"{KNOB} names the kind {stage.kind!r}. Set it to one of {', '.join(KINDS)}.")
  if not layer < stage.layer < depth:
    raise ValueError(
      f"{KNOB} has a stage after layer {stage.layer}. Its layer must be above {layer} (that of the "
      f"stage before it) and below {depth} (the number of layers of the llm)."
    )
  if not 0 < stage.ratio < ratio:
    raise ValueError(
      f"{KNOB} keeps {stage.ratio} of the original tokens after layer {stage.layer}, but ratios "
      f"must fall from stage to stage. Set it above 0 and below {ratio}."
    )


def released(kind: str, layers: Sequence[int], ratios: Sequence[float]) -> tuple:
  """Stages from the three settings of a released VideoChat-Flash config.

  Returns ((layer, kind, ratio), ...). kind: uniform | attention | uniformN_attention (stages up to
  the N-th uniform, then attention). Raises ValueError unless `ratios` has one entry more than
  `layers` and starts with 1.

    uniform0_attention, [4, 18], [1, .75, .25] -> (4, uniform, .75), (18, attention, .25)
  """
  if len(ratios) != len(layers) + 1 or ratios[0] != 1:
    raise ValueError(
      f"llm_image_token_ratio_list={list(ratios)} does not fit llm_compress_layer_list="
      f"{list(layers)}. Write one ratio more than layers; the first is 1."
    )
  head, _, tail = kind.partition("_")
  number = head.removeprefix("uniform")
  if kind in KINDS:
    uniform = len(layers) if kind == "uniform" else 0
  elif tail == "attention" and head.startswith("uniform") and number.isdecimal():
    uniform = int(number) + 1
  else:
    raise ValueError(
      f"llm_compress_type={kind!r} is unknown. Set it to uniform, attention or uniform0_attention."
    )
  kinds = ["uniform" if number < uniform else "attention" for number in range(len(layers))]
  return tuple(zip(layers, kinds, ratios[1:], strict=True))


def kept(
  visual: Sequence[int] | np.ndarray,
  stages: Stages,
  has_query: Sequence[bool] | None = None,
) -> np.ndarray:
  """Numbers of visual tokens that remain after each stage, i32 [stages S].

  visual: the original numbers N of each sample; int(N · ratio) of them remain. has_query: False for
  samples without a query position, which keep all their tokens in a stage of kind "attention".

    visual = [10 7], stages at .75 and .25  ->  [[7 5]
                                                 [2 1]]
  """
  counts = np.asarray(visual, np.int64)
  asks = np.ones(counts.shape, bool)
  if has_query is not None:
    asks = np.asarray(has_query, bool)
  out = np.zeros((len(stages), len(counts)), np.int32)
  current = counts
  for number, stage in enumerate(stages):
    wanted = (counts * stage.ratio).astype(np.int64)  # Truncates, like int().
    reduced = np.minimum(current, wanted)
    if stage.kind == "uniform":
      current = reduced
    else:
      current = np.where(asks, reduced, current)
    out[number] = current
  return out


def lengths(
  length: int,
  visual: int,
  stages: Stages,
  multiple: int = 1,
) -> tuple[int, ...]:
  """The static length of a row after every stage.

  It is enough for a row that is full of visual tokens: for those that remain, and for the text. It
  is rounded up to a `multiple` (of config.mesh.seq, for example). With more text, a row may not
  fit; `overflow_reason` tells.

    length = 100, visual = 80, a stage at .25, multiple = 8  ->  20 + 20 = 40 places
  """
  visual = min(visual, length)
  text = length - visual
  rounded = []
  for stage in stages:
    shorter = text + int(visual * stage.ratio)
    rounded.append(min(length, math.ceil(shorter / multiple) * multiple))
  return tuple(rounded)


def room(row: RowShape, layout: VisualLayout) -> tuple[int, ...]:
  """Static length of a packed row after every stage, for any mesh."""
  multiple = math.gcd(row.length, MULTIPLE)
  while multiple > 1 and multiple > row.length // 32:
    multiple //= 2
  return lengths(row.length, layout.newline_index(row), layout.stages, multiple)


def overflow_reason(counts: Sequence[int], room: Sequence[int], stages: Stages) -> str:
  """The reason why a row does not fit, or "".

  `counts` are the tokens (text and kept visual tokens) that remain after each stage.
  """
  for stage, count, places in zip(stages, counts, room, strict=True):
    if count > places:
      return (
        f"{count} text and kept visual tokens are left after layer {stage.layer}, where rows have "
        f"{places} places ({KNOB}). Lower the ratio there, or raise the length in config.data.rows."
      )
  return ""


def queries(labels: np.ndarray, answers: np.ndarray, kind: str) -> np.ndarray:
  """The query positions of one sample, i32.

  labels: bool [L], True for supervised tokens. answers: bool [L], True for tokens of an answer.
  kind: config.model.llm.dropout_queries. Raises ValueError for an unknown kind.
  """
  if kind not in QUERIES:
    raise ValueError(
      f"config.model.llm.dropout_queries={kind!r} is unknown. Set it to one of "
      f"{', '.join(QUERIES)}."
    )
  return query_positions(labels if kind == "released" else answers)


def query_positions(supervised: np.ndarray) -> np.ndarray:
  """The positions right before every run of supervised tokens.

  bool [L] -> i32. With dropout_queries "released", the training labels are used; with "answers",
  the tokens of answers. A run at the start of the sample has no position before it.

    supervised = [0 0 1 1 0 1]  ->  [1 4]
  """
  supervised = np.asarray(supervised, bool)
  return np.flatnonzero(supervised[1:] & ~supervised[:-1]).astype(np.int32)
