# SPDX-License-Identifier: Apache-2.0
"""The identity of a plan: digests of its inputs.

A run resumes only under its original fingerprint. So every fact is listed here by name: a new
field of a dataclass changes no fingerprint by itself.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from typing import Any

import numpy as np

from data_pipelines.packing.demand import Demand
from data_pipelines.text import templates
from filax.spec import RowShape, VisualLayout

_VERSION = 1


def digest_facts(**facts) -> str:
  """sha256 of facts: JSON-like values, arrays and bytes."""
  text = json.dumps(facts, sort_keys=True, default=_as_text)
  return hashlib.sha256(text.encode()).hexdigest()


def _as_text(value: Any) -> str:
  """The text of a value outside JSON; arrays and bytes become digests."""
  if isinstance(value, np.ndarray):
    value = f"{value.dtype} {value.shape}".encode() + value.tobytes()
  if isinstance(value, bytes):
    return hashlib.sha256(value).hexdigest()
  return repr(value)


def sample_facts(
  data: Mapping[str, Any], layout: VisualLayout, corpus_digest: str, tokenizer_digest: str
) -> dict[str, Any]:
  """The facts that decide the text and the demand of every sample."""
  facts = dict(
    version=_VERSION,
    corpus=corpus_digest,
    tokenizer=tokenizer_digest,
    layout=[
      layout.size,
      layout.frames_per_group,
      layout.group_grid,
      layout.image_grid,
      layout.newline,
    ],
    template=data["template"],
    system=data["system"],
    labels=data["labels"],
    time_prompt=data["time_prompt"],
    sampling=data["sampling"],
    images=data["images"],
  )
  if layout.stages:
    facts["dropout"] = [[stage.layer, stage.kind, stage.ratio] for stage in layout.stages]
    facts["asks"] = layout.queries
  return facts


def demand_digest(
  facts: Mapping[str, Any], media: Mapping[str, str], seed: int | None = None, unit: int = 0
) -> str:
  """sha256 of the inputs of a measured demand.

  media: the facts of every medium (`describe`). `seed` is among the inputs if the demand depends on
  the epoch. unit: VisualLayout.frames_per_unit, where clips make it more than a group.
  """
  varying = {} if seed is None else dict(seed=seed)
  if unit:
    varying["unit"] = unit
  return digest_facts(**facts, **varying, media=sorted(media.items()), chat=templates.RULES)


def plan_fingerprint(
  facts: Mapping[str, Any],
  demand: Demand,
  shapes: Sequence[RowShape],
  *,
  seed: int,
  batch: int,
  packing: bool,
  position_gaps: int = 0,
) -> str:
  """sha256 of the inputs that decide a plan's rows.

  `demand` is that of epoch 0.
  """
  gaps = dict(position_gaps=position_gaps) if position_gaps else {}
  return digest_facts(
    **facts,
    **gaps,
    seed=seed,
    batch=batch,
    packing=packing,
    sizes=demand.columns(),
    rows=[_shape_fields(shape) for shape in shapes],
  )


def _shape_fields(shape: RowShape) -> list[int | tuple[int, ...]]:
  fields: list[int | tuple[int, ...]] = [
    shape.frames,
    shape.images,
    shape.length,
    shape.segments,
    shape.queries,
    shape.stages,
  ]
  if shape.room:
    fields.append(shape.room)
  return fields
