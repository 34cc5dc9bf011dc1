# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a language model alone: they answer questions without a video."""

from collections.abc import Mapping
from typing import Any

from filax.models import components

_PLACEHOLDERS: Mapping[str, Mapping[str, Any]] = dict(  # The smallest; without parameters.
  encoder=dict(name="siglip", variant="tiny"),
  selector=dict(name="uniform", size=1),
  merger=dict(name="mean"),
  projector=dict(name="mlp"),
)


def is_text_only(model: Mapping[str, Any]) -> bool:
  """Whether config.model has an llm and no other role."""
  roles = [role for role in components.ROLES if role in model]
  return roles == ["llm"]


def with_placeholders(model: Mapping[str, Any]) -> dict[str, Any]:
  """config.model with placeholders for the visual roles."""
  return dict(_PLACEHOLDERS) | dict(model)


def placeholder_selector() -> dict[str, Any]:
  """The selector in place of config.infer.selector."""
  return dict(_PLACEHOLDERS["selector"])
