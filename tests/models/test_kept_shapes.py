# SPDX-License-Identifier: Apache-2.0
"""Shapes of parameters are traced once for all processes."""

import jax
import pytest

from filax import compilation_cache
from filax.compilation_cache import ProgramFolder
from filax.models import kept_shapes
from filax.models.kept_shapes import shapes_of

SHAPES = {"llm": {"norm": {"scale": jax.ShapeDtypeStruct((7,), "float32")}}}


class Model:
  """A model of which only the settings count."""

  def __init__(self, width):
    self.width = width

  def __repr__(self):
    return f"Model(width={self.width})"


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The folder of a process in which `compilation_cache.enable` chose one."""
  programs = ProgramFolder(tmp_path, 1 << 20)
  monkeypatch.setattr(compilation_cache, "_CHOSEN", [programs])
  return tmp_path


def shapes(model):
  """(shapes, whether they were traced)."""
  traces = []
  result = shapes_of(model, lambda: traces.append(1) or SHAPES)
  return result, bool(traces)


def test_they_are_traced_once(folder):
  assert shapes(Model(7)) == (SHAPES, True)
  assert shapes(Model(7)) == (SHAPES, False)


def test_another_model_has_its_own(folder):
  shapes(Model(7))
  assert shapes(Model(8)) == (SHAPES, True)


def test_other_code_has_its_own(folder, monkeypatch):
  shapes(Model(7))
  monkeypatch.setattr(kept_shapes, "_code_digest", lambda: "other code")
  assert shapes(Model(7)) == (SHAPES, True)


def test_a_model_with_a_function_is_traced_each_time(folder):
  for _ in range(2):
    assert shapes(Model(shapes)) == (SHAPES, True)


def test_damage_is_noticed(folder, capsys):
  shapes(Model(7))
  (entry,) = folder.iterdir()
  content = entry.read_bytes()
  entry.write_bytes(content[:-3] + b"xxx")
  assert shapes(Model(7)) == (SHAPES, True)


def test_without_a_folder_nothing_is_kept(monkeypatch):
  monkeypatch.setattr(compilation_cache, "_CHOSEN", [])
  for _ in range(2):
    assert shapes(Model(7)) == (SHAPES, True)


def test_the_code_of_others_is_traced_each_time(folder):
  from filax.models.components import build_video_lm
  from filax.testing.tiny_checkpoint import tiny_config

  model = build_video_lm(tiny_config()["model"])
  assert kept_shapes.is_own(model)
  own_merger = type("Merger", (type(model.merger),), dict(__module__="my_lab.mergers"))
  assert not kept_shapes.is_own(model.clone(merger=own_merger()))
