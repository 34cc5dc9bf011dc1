# SPDX-License-Identifier: Apache-2.0
"""Bytes of a train step on a device, by arithmetic alone.

The state is exact. The rest follows the three moments at which a step holds most: the loss, the
backward pass of a layer of the llm, and that of the encoder. The factors below were set so that
the sums agree with compiled programs: docs/plan.md compares both for every stage.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from filax.spec import RowShape
from filax.train.recompute import LayerShape, layer_shape
from filax.train.step_work import parameter_sizes

MARGIN = 0.2  # This share of the estimate is kept free in addition to it.
_GATHERED_AHEAD = 1.5  # Copies of the head kept gathered over micro-batches; calibrated.
_MLP_VALUES = 5  # Values of the MLP's width alive in a layer's backward pass; calibrated.
_WIDTH_VALUES = 10  # The same of the layer's width.
_LAYER_COPIES = 3  # Gathered weights of a layer: in use, the next one's, and transposed.
_LOGIT_COPIES = 3  # float32 logits of a chunk: logits, probabilities, gradient.
_PIXEL_COPIES = 3  # Standardised pictures, in the compute dtype.
_FLOAT32 = 4


@dataclasses.dataclass(frozen=True)
class StepFacts:
  """What the memory of a step depends on, beside policies and micro-batches."""

  model: Any  # A VideoLM.
  shapes: PyTree  # Shapes of the parameters.
  rates: Mapping[str, float]  # Path of a parameter -> its rate; 0 = frozen.
  mesh: Mapping[str, int]
  rows: Sequence[RowShape]
  batch: int  # Rows of a step.
  state_bytes: float  # Bytes of parameters and optimizer on one device.
  loss_chunk: int

  @functools.cached_property
  def sizes(self) -> Mapping[str, Sequence[int]]:
    """Path of a parameter -> its shape."""
    return parameter_sizes(self.shapes)

  @property
  def rows_of_device(self) -> int:
    """Rows of a step for devices that share rows."""
    return self.batch // (self.mesh["data"] * self.mesh["fsdp"])

  def layer(self, role: str) -> LayerShape:
    """A layer of "encoder" or "llm"."""
    return layer_shape(role, getattr(self.model, role).width, self.sizes)

  def trains(self, prefix: str) -> bool:
    """Whether a parameter below `prefix` is trained."""
    return any(rate and path.startswith(prefix) for path, rate in self.rates.items())


@dataclasses.dataclass(frozen=True)
class Policy:
  """A choice: what the layers keep, and the micro-batches of a step."""

  encoder: str
  llm: str
  parts: int


@dataclasses.dataclass(frozen=True)
class StepBytes:
  """Bytes of a device; the last three exist in turn."""

  state: float
  batch: float
  gradients: float
  kept: float  # By the layers, for the backward pass.
  loss: float
  llm: float
  encoder: float

  @property
  def peak(self) -> float:
    """Bytes at the fullest moment."""
    fullest = max(self.kept + self.loss, self.kept + self.llm, self.encoder)
    return self.state + self.batch + self.gradients + fullest


def step_bytes(facts: StepFacts, policy: Policy, row: RowShape) -> StepBytes:
  """The estimate for rows of one shape."""
  at_once = facts.rows_of_device // policy.parts
  pictures = _Pictures(facts, policy, row, at_once)
  item = _item_bytes(facts)
  table = facts.model.layout().newline_index(row) * at_once * facts.model.llm.width * item
  gradients = _gradient_bytes(facts, policy.parts) + 2 * table  # The table and its gradient.
  positions = row.length * at_once / facts.mesh["seq"]
  kept = pictures.kept + positions * _kept_bytes(facts, "llm", policy.llm)
  return StepBytes(
    state=facts.state_bytes,
    batch=_batch_bytes(facts, row),
    gradients=gradients,
    kept=kept,
    loss=_loss_bytes(facts, policy.parts, at_once, positions),
    llm=_llm_bytes(facts, positions),
    encoder=pictures.kept + pictures.backward,
  )


def largest_bytes(facts: StepFacts, policy: Policy) -> StepBytes:
  """The estimate for the row shape that needs most."""
  estimates = [step_bytes(facts, policy, row) for row in facts.rows]
  return max(estimates, key=lambda estimate: estimate.peak)


class _Pictures:
  """Bytes of an encoder's pass over the pictures of `at_once` rows."""

  def __init__(self, facts: StepFacts, policy: Policy, row: RowShape, at_once: int):
    encoder = facts.model.encoder
    item = _item_bytes(facts)
    count = (row.frames + row.images) * at_once / facts.mesh["seq"]
    patches_of_picture = math.prod(encoder.grid)
    patches = count * patches_of_picture
    layer = facts.layer("encoder")
    self.kept = patches * encoder.width * item  # Features.
    self.backward = 0.0
    if not facts.trains("encoder/"):
      return
    self.kept += patches * _kept_bytes(facts, "encoder", policy.encoder)
    at_a_time = patches
    if facts.model.encode_chunk:
      at_a_time = min(patches, facts.model.encode_chunk * encoder.clip * patches_of_picture)
    hidden = layer.features("up")
    heads = getattr(encoder, "heads", 1)
    scores = heads * patches_of_picture * encoder.clip
    self.backward = at_a_time * item * (8 * encoder.width + 4 * hidden + scores)
    self.backward += count * encoder.size**2 * 3 * item * _PIXEL_COPIES


def _kept_bytes(facts: StepFacts, role: str, policy: str) -> float:
  """Bytes that all layers of a role keep of one token."""
  shared, split = facts.layer(role).kept(policy)
  elements = shared + split / facts.mesh["tensor"]
  return elements * _item_bytes(facts) * getattr(facts.model, role).depth


def _gradient_bytes(facts: StepFacts, parts: int) -> float:
  """float32 gradients, their sum over micro-batches, and weights in the compute dtype."""
  mesh = facts.mesh
  tensor = mesh["tensor"]
  total = 0.0
  for path, shape in facts.sizes.items():
    split = mesh["fsdp"] * tensor
    if not path.startswith("encoder/"):
      split *= mesh["seq"]
    elements = math.prod(shape) / split
    if facts.rates.get(path):  # Codes are never trained.
      total += elements * _FLOAT32 * (2 if parts > 1 else 1)
    if path.startswith("llm/layers/"):
      total += elements * _item_bytes(facts)
  return total


def _loss_bytes(facts: StepFacts, parts: int, at_once: int, positions: float) -> float:
  """The gathered head, its gradient, and a chunk of logits."""
  llm = facts.model.llm
  rows = getattr(llm, "vocab_rows", llm.vocab)
  head = rows * llm.width / facts.mesh["tensor"]
  total = head * _item_bytes(facts)
  if facts.trains("llm/lm_head") or ("llm/lm_head/kernel" not in facts.sizes):
    total += head * _FLOAT32
  if parts > 1:
    total += head * _item_bytes(facts) * _GATHERED_AHEAD
  chunk = min(positions, at_once * max(1, facts.loss_chunk // facts.mesh["seq"]))
  return total + chunk * rows * _FLOAT32 * _LOGIT_COPIES / facts.mesh["tensor"]


def _llm_bytes(facts: StepFacts, positions: float) -> float:
  """A layer's values, gathered weights and gradients of weights."""
  layer = facts.layer("llm")
  item = _item_bytes(facts)
  tensor = facts.mesh["tensor"]
  values = _MLP_VALUES * layer.features("up") / tensor + _WIDTH_VALUES * layer.width
  total = positions * values * item + layer.elements / tensor * item * _LAYER_COPIES
  if facts.trains("llm/layers/"):
    total += layer.elements / tensor * _FLOAT32
  return total


def _batch_bytes(facts: StepFacts, row: RowShape) -> float:
  """Bytes of the batch on a device: frames and integers."""
  total = 0.0
  for key, (shape, dtype) in row.shapes(1, facts.model.encoder.size).items():
    split = facts.mesh["seq"] if key.startswith("frame") else 1
    total += math.prod(shape) * dtype.itemsize / split
  return total * facts.rows_of_device


def _item_bytes(facts: StepFacts) -> int:
  """Bytes of a number in the compute dtype."""
  return jnp.dtype(facts.model.llm.dtype).itemsize
