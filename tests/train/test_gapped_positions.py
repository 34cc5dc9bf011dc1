# SPDX-License-Identifier: Apache-2.0
"""Positions with gaps on several devices: the loss of one device."""

import functools

import jax
import numpy as np
import pytest

from data_pipelines.packing.position_gaps import gap_generator, gapped_positions
from filax.models.components import dims_table
from filax.parallel import mesh, rules
from filax.testing import packed_rows
from filax.train import batches, step

pytestmark = pytest.mark.slow

CONFIG = packed_rows.FLASH | dict(encode_chunk=2)
SPAN = 3000


def with_gaps(batch):
  """The batch with a gap before and after the visual tokens of every sample."""
  positions = np.array(batch["positions"])
  for row, segments in enumerate(batch["segment_ids"]):
    for segment in range(1, segments.max() + 1):
      (places,) = np.nonzero(segments == segment)
      visual = batch["visual_index"][row, places] >= 0
      borders = np.flatnonzero(np.diff(visual.astype(int))) + 1
      rng = gap_generator(0, row, segment)
      positions[row, places] = gapped_positions(len(places), borders, SPAN, rng)
  return batch | dict(positions=positions)


def with_sharp_attention(params):
  """Larger queries and keys: weights drawn at random hardly attend to positions."""

  def sharpened(path, leaf):
    name = jax.tree_util.keystr(path)
    is_score = "'llm'" in name and ("q_proj" in name or "k_proj" in name)
    return 8 * leaf if is_score else leaf

  return jax.tree_util.tree_map_with_path(sharpened, params)


@functools.cache
def losses(seq):
  """The summed loss of a batch without and with gaps, over `seq` devices."""
  model, params = packed_rows.tiny_model(CONFIG)
  params = with_sharp_attention(params)
  batch = packed_rows.packed_batch(model.layout(), packed_rows.sample_rows(2))
  devices = mesh.make_mesh(dict(data=1, fsdp=1, seq=seq, tensor=1), jax.devices()[:seq])
  params = jax.device_put(params, rules.parameter_shardings(dims_table(CONFIG), params, devices))
  loss = jax.jit(step.make_loss(model, "token_mean", chunk=32))
  with jax.set_mesh(devices):
    values = []
    for variant in (batch, with_gaps(batch)):
      placed = batches.place_batch(variant, devices)
      total, _ = loss(params, placed, jax.random.key(0))
      values.append(float(total))
  return values


def test_rows_with_gaps_have_the_same_loss_on_every_mesh():
  np.testing.assert_allclose(losses(4), losses(1), rtol=2e-6)


def test_gaps_reach_the_attention():
  plain, gapped = losses(1)
  assert abs(plain - gapped) > 1e-4 * abs(plain)
