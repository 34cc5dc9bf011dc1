# SPDX-License-Identifier: Apache-2.0
"""A component of the user's own whose arrays are not those of its role is named."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import pytest

from filax.models.components import build_video_lm
from filax.models.encoders import siglip
from filax.models.mergers.mean import Mean
from filax.models.projectors.mlp import MLP
from filax.testing.packed_rows import FILA

MODEL = FILA | dict(merger=dict(name="mean"), merge_stage="vision")


class FirstFrame(Mean):
  """It keeps the frames' axis."""

  def __call__(self, x):
    return x[:, :, :1]


class EverySecond(Mean):
  """Its `grid` still names all tokens."""

  def __call__(self, x):
    return super().__call__(x)[:, :, ::2]


class SmallPictures(Mean):
  """Its `image_grid` still names all tokens."""

  def merge_images(self, x):
    return x[:, :, ::2]


class WithClassToken(siglip.Siglip):
  """It returns one token more than it has patches."""

  def __call__(self, frames):
    tokens = super().__call__(frames)
    return jnp.pad(tokens, ((0, 0), (0, 0), (1, 0), (0, 0)))


class Unpooled(MLP):
  """Its `pooled_grid` names fewer tokens."""

  @nn.nowrap
  def pool(self, x, grid):
    return x


@pytest.mark.parametrize(
  ("role", "component"),
  [
    ("merger", FirstFrame),
    ("merger", EverySecond),
    ("merger", SmallPictures),
    ("encoder", WithClassToken),
    ("projector", Unpooled),
  ],
)
def test_another_shape_is_named(role, component):
  settings = MODEL[role] | dict(name=f"{__name__}:{component.__name__}", variant="")
  if role == "encoder":
    settings |= siglip.VARIANTS["tiny"]
  model = build_video_lm(MODEL | {role: settings})
  message = f"The {role} {component.__name__} returned an array of shape .* needs"
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(model.init, jax.random.key(0), model.example())


class NoModule:
  """A class, but not of flax."""


def test_a_class_that_is_no_module():
  with pytest.raises(ValueError, match=r"NoModule does not inherit from flax\.linen\.Module"):
    build_video_lm(MODEL | dict(merger=dict(name=f"{__name__}:NoModule")))


def test_a_variant_of_a_module_without_variants():
  encoder = dict(name=f"{__name__}:WithClassToken", variant="tiny")
  with pytest.raises(ValueError, match=r"encoder\.variant to '', as test_role_calls has none"):
    build_video_lm(MODEL | dict(encoder=encoder))
