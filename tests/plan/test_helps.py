# SPDX-License-Identifier: Apache-2.0
"""What a plan advises: knobs that make a program smaller, or that use the memory it leaves."""

from types import SimpleNamespace

import pytest

from filax.plan import program, report

LLM = dict(llm=dict(remat="attn"))


def setup(parts):
  mesh = SimpleNamespace(shape=dict(data=1, fsdp=16, seq=4, tensor=1))
  return SimpleNamespace(mesh=mesh, micro_batches=parts)


def memory(parameters, temporary):
  return program.Memory(parameters, 2.0 * parameters, 0.0, temporary)


@pytest.mark.parametrize("held, first", [(9.0, "config.mesh.fsdp=16"), (0.1, "config.optim.acc")])
def test_what_is_the_most_is_named_first(held, first):
  found = report.smaller_knobs(memory(held, 5.0), dict(batch=64, model=LLM), setup(1))
  assert first in found[0]
  assert any("config.mesh.seq=8" in text for text in found)
  assert any("remat=nothing" in text for text in found)


@pytest.mark.parametrize("usable, fewer", [(40.0, 1), (30.0, 2), (12.0, None)])
def test_free_memory_is_for_larger_parts(usable, fewer):
  """Three bytes are held, four parts take seven each: one part takes 28."""
  found = report.larger_knobs(memory(1.0, 7.0), usable, setup(4))
  assert [text.split(":")[0] for text in found] == (
    [f"config.optim.accumulate={fewer}"] if fewer else []
  )


def test_one_part_is_never_split():
  assert report.larger_knobs(memory(1.0, 7.0), 1e9, setup(1)) == []
