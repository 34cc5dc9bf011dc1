# SPDX-License-Identifier: Apache-2.0
"""Packed rows of videos, pictures and words for any tiny model, drawn from a seed a sample."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.packing import visual_order
from filax.models.components import build_video_lm
from filax.spec import RowShape, dropout_stages

FILA = dict(
  encoder=dict(name="siglip", variant="tiny"),
  selector=dict(name="uniform", size=3),
  merger=dict(name="weighted"),
  projector=dict(name="mlp", newline="one_token", pool_side=2),
  llm=dict(name="qwen2", variant="tiny"),
)
FLASH = dict(
  encoder=dict(name="umt", variant="tiny"),
  selector=dict(name="clips", size=4),
  merger=dict(name="tome", tokens=2),
  projector=dict(name="mlp", newline="none", pool_side=1),
  llm=dict(name="qwen2", variant="tiny", dropout=((1, "uniform", 0.75), (2, "attention", 0.25))),
)
GROUPS, IMAGES = 8, 2  # Of a row: they divide over 8 and 2 devices.


@dataclasses.dataclass(frozen=True)
class Sample:
  """`groups` of frames, then pictures, then words; every second word is learnt."""

  seed: int
  groups: int
  images: int
  words: int


def rows(count: int) -> list[list[Sample]]:
  """A long video, a picture with a short video, and words alone; lengths differ from row to row."""
  return [
    [Sample(3 * r, 5 - r % 2, 0, 7 + r % 3), Sample(3 * r + 1, 2, 1, 5), Sample(3 * r + 2, 0, 0, 9)]
    for r in range(count)
  ]


def model(config, **changes):
  """(model, drawn parameters) of a config with another encode_chunk, say."""
  made = build_video_lm(config | changes)
  shapes = jax.eval_shape(made.init, jax.random.key(0), made.example())["params"]
  rng = np.random.default_rng(0)
  return made, jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def shape(layout) -> RowShape:
  visual = GROUPS * layout.tokens_per_group + IMAGES * layout.tokens_per_image
  unit = 512 if layout.stages else 64  # Shortened rows of a 512 still split over 8 devices.
  made = RowShape(
    GROUPS * layout.frames_per_group, IMAGES, unit * math.ceil((visual + 40) / unit), 3
  )
  if not layout.stages:
    return made
  return dataclasses.replace(
    made, room=dropout_stages.room(made, layout), stages=len(layout.stages), queries=16
  )


def batch(layout, packed: list[list[Sample]]) -> dict[str, np.ndarray]:
  made = [row(layout, samples) for samples in packed]
  return {key: np.stack([r[key] for r in made]) for key in made[0]}


def row(layout, samples: list[Sample]) -> dict[str, np.ndarray]:
  kind = shape(layout)
  out = kind.zeros(layout.size)
  at = dict(token=0, group=0, image=0, query=0)
  for segment, sample in enumerate(samples, 1):
    _put(out, layout, kind, segment, sample, at)
  return out


def _put(out, layout, kind: RowShape, segment: int, sample: Sample, at: dict[str, int]) -> None:
  rng = np.random.default_rng(sample.seed)
  visual = _visual(layout, kind, sample, at)
  size = len(visual) + sample.words
  here = slice(at["token"], at["token"] + size)
  words = rng.integers(1, 500, size)
  learnt = (np.arange(size) >= len(visual) + 2) & (np.arange(size) % 2 > 0)
  out["tokens"][here], out["segment_ids"][here] = words, segment
  out["positions"][here] = np.arange(size)
  out["visual_index"][here.start : here.start + len(visual)] = visual
  out["targets"][here.start : here.stop - 1] = words[1:]
  out["loss_mask"][here.start : here.stop - 1] = learnt[1:]
  pixels = lambda n: rng.integers(0, 256, (n, layout.size, layout.size, 3))
  K = layout.frames_per_group
  frames = slice(K * at["group"], K * (at["group"] + sample.groups))
  out["frames"][frames], out["frame_segment_ids"][frames] = pixels(K * sample.groups), segment
  images = slice(at["image"], at["image"] + sample.images)
  out["images"][images], out["image_segment_ids"][images] = pixels(sample.images), segment
  if layout.stages:
    asks = dropout_stages.query_positions(learnt)
    out["queries"][at["query"] : at["query"] + len(asks)] = here.start + asks
    out["keep"][:, segment - 1] = dropout_stages.kept([len(visual)], layout.stages)[:, 0]
    at["query"] += len(asks)
  at["token"], at["group"], at["image"] = here.stop, frames.stop // K, images.stop


def _visual(layout, kind: RowShape, sample: Sample, at) -> np.ndarray:
  """The visual_index of a sample's media."""
  parts = [np.zeros(0, int)]
  if sample.groups:
    parts.append(
      visual_order.placed(
        visual_order.video_order(sample.groups, layout),
        at["group"] * layout.tokens_per_group,
        layout.newline_index(kind),
      )
    )
  for n in range(sample.images):
    first = layout.first_image(kind) + (at["image"] + n) * layout.tokens_per_image
    parts.append(np.arange(first, first + layout.tokens_per_image))
  return np.concatenate(parts)
