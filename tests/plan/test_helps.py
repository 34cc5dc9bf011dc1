# SPDX-License-Identifier: Apache-2.0
"""The advice of a plan: knobs for a smaller program, or for the memory that is free."""

from types import SimpleNamespace

import pytest

from filax.plan import program, report

LLM = dict(llm=dict(remat="attn"))


def setup(parts):
  mesh = SimpleNamespace(shape=dict(data=1, fsdp=16, seq=4, tensor=1))
  return SimpleNamespace(mesh=mesh, micro_batches=parts)


def memory(parameters, temporary):
  return program.Memory(parameters, 2.0 * parameters, 0.0, temporary)


@pytest.mark.parametrize(
  "parameters, first", [(9.0, "config.mesh.fsdp=16"), (0.1, "config.optim.acc")]
)
def test_the_largest_part_of_the_memory_is_named_first(parameters, first):
  knobs = report.smaller_knobs(memory(parameters, 5.0), dict(batch=64, model=LLM), setup(1))
  assert first in knobs[0]
  text = "\n".join(knobs)
  assert "config.mesh.seq=8" in text
  assert "remat=nothing" in text


@pytest.mark.parametrize("usable, fewer", [(40.0, 1), (30.0, 2), (12.0, None)])
def test_free_memory_is_for_larger_parts(usable, fewer):
  """Three bytes are held, four parts take seven each: one part takes 28."""
  knobs = report.larger_knobs(memory(1.0, 7.0), usable, setup(4))
  expected = [f"config.optim.accumulate={fewer}"] if fewer else []
  assert [text.split(":")[0] for text in knobs] == expected


def test_one_part_is_never_split():
  assert report.larger_knobs(memory(1.0, 7.0), 1e9, setup(1)) == []
