# SPDX-License-Identifier: Apache-2.0
"""Components have what their role asks for, and get its defaults."""

import sys
import types

from flax import linen as nn
import pytest

from filax.models import components, roles
from filax.models.roles import Merger, PatchEncoder, Selector

COMPONENTS = [(role, name) for role in components.ROLES for name in components.available(role)]


@pytest.mark.parametrize(("role", "name"), COMPONENTS)
def test_every_component_has_the_members_of_its_role(role, name):
  _, model = components.component(role, name)
  assert roles.missing_members(role, model) == []


@pytest.mark.parametrize(("role", "name"), COMPONENTS)
def test_every_component_inherits_from_its_role(role, name):
  _, model = components.component(role, name)
  assert roles.PROTOCOLS[role] in model.__mro__


def test_every_role_has_a_protocol():
  assert tuple(roles.PROTOCOLS) == components.ROLES


def test_class_names_of_components_are_unique():
  names = [components.component(role, name)[1].__name__ for role, name in COMPONENTS]
  assert len(set(names)) == len(names)


class Plain(nn.Module, Merger):
  """A merger that says nothing beyond its numbers."""

  def __call__(self, x):
    return x.mean(2)


def test_a_merger_has_the_grid_of_a_frame_by_default():
  assert Plain().grid(4, (3, 5)) == (3, 5)


def test_a_merger_costs_nothing_by_default():
  assert Plain().flops(4, (3, 5), 8) == 0.0


def test_a_merger_may_sit_at_every_stage_by_default():
  assert Plain().stages == ("vision", "projector", "pool")


class Pairs(nn.Module, Selector):
  """A selector with the defaults of its role."""

  size: int = 2

  def groups(self, frames):
    return frames // self.size

  def __call__(self, tokens, mask):
    return tokens, mask


def test_a_group_is_represented_by_its_middle_frame_by_default():
  assert [Pairs(size=size).representative for size in (1, 2, 3, 4)] == [0, 1, 1, 2]


def test_a_selector_allows_packed_rows_by_default():
  assert not Pairs().needs_single


class Patches(nn.Module, PatchEncoder):
  """An encoder with the defaults of its role."""

  size: int = 30
  patch: int = 7

  def __call__(self, frames):
    return frames


def test_an_encoder_cuts_off_a_remainder_of_pixels():
  assert Patches().grid == (4, 4)


def test_an_own_component_without_its_role_is_refused(monkeypatch):
  class Lonely(nn.Module):
    size: int = 3

  lab = types.ModuleType("lab_of_tests")
  lab.Lonely = Lonely
  monkeypatch.setitem(sys.modules, "lab_of_tests", lab)
  with pytest.raises(ValueError, match="lacks chooses_scenes, groups, needs_single, represent"):
    components.build("selector", dict(name="lab_of_tests:Lonely"))


def test_an_own_component_with_its_role_is_built(monkeypatch):
  lab = types.ModuleType("lab_of_tests")
  lab.Pairs = Pairs
  monkeypatch.setitem(sys.modules, "lab_of_tests", lab)
  assert components.build("selector", dict(name="lab_of_tests:Pairs", size=5)).size == 5


def test_an_own_component_that_leaves_out_a_method_is_refused(monkeypatch):
  class Unfinished(nn.Module, Selector):
    size: int = 2

    def __call__(self, tokens, mask):
      return tokens, mask

  lab = types.ModuleType("lab_of_tests")
  lab.Unfinished = Unfinished
  monkeypatch.setitem(sys.modules, "lab_of_tests", lab)
  with pytest.raises(ValueError, match=r"is incomplete: .*groups"):
    components.build("selector", dict(name="lab_of_tests:Unfinished"))


def test_the_fields_of_qwen2_are_arguments_of_a_config():
  _, model = components.component("llm", "qwen2")
  assert not {"block", "dims", "stages", "norm"} & set(model.__dataclass_fields__)
