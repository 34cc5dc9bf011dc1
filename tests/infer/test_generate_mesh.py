# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode on a mesh, visual tokens dropped on the way: the tokens of one device."""

import jax
import numpy as np
import pytest

from filax.infer.generate import generate
from filax.models.components import dims_table
from filax.parallel import mesh, rules
from filax.testing import packed_rows

pytestmark = pytest.mark.slow

VISUAL, WORDS = 48, 16


@pytest.fixture(scope="module")
def asked():
  """(model, params, the arguments of generate, what one device answers)."""
  model, params = packed_rows.tiny_model(packed_rows.FLASH)
  rng = np.random.default_rng(0)
  index = np.full(VISUAL + WORDS, -1)
  index[2 : 2 + VISUAL] = np.arange(VISUAL)
  given = dict(
    prompts=[rng.integers(1, 500, VISUAL + WORDS).tolist()],
    visual_index=[index],
    table=rng.normal(0, 1, (1, VISUAL + 1, model.llm.width)).astype(np.float32),
    max_new_tokens=6,
  )
  return model, params, given, generate(model, params, **given).tokens


@pytest.mark.parametrize("sizes", [dict(seq=8), dict(seq=2, tensor=2), dict(fsdp=2)], ids=str)
def test_a_mesh_answers_as_one_device(asked, sizes):
  model, params, given, expected = asked
  devices = jax.devices()[: int(np.prod(list(sizes.values())))]
  layout = mesh.make_mesh(dict(data=1, fsdp=1, seq=1, tensor=1) | sizes, devices)
  params = jax.device_put(
    params, rules.parameter_shardings(dims_table(packed_rows.FLASH), params, layout)
  )
  assert generate(model, params, mesh=layout, **given).tokens == expected
  assert len(set(expected[0])) > 1
