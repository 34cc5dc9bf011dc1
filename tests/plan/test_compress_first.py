# SPDX-License-Identifier: Apache-2.0
"""Merged tokens travel over seq, patches do not: bytes read from compiled programs on 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import dims_table
from filax.parallel import mesh, rules
from filax.parallel.rules import constrain
from filax.plan import collectives
from filax.testing import packed_rows
from filax.train import batches

pytestmark = pytest.mark.slow

SIZES = dict(data=1, fsdp=1, seq=8, tensor=1)


def moved(config, method):
  """Bytes a device receives along seq while frames become the visual table."""
  model, params = packed_rows.tiny_model(config)
  layout = mesh.make_mesh(SIZES)
  params = jax.device_put(params, rules.parameter_shardings(dims_table(config), params, layout))
  params = jax.device_put(params, jax.NamedSharding(layout, jax.P()))  # Their travels are others'.
  batch = packed_rows.packed_batch(model.layout(), packed_rows.sample_rows(2))
  with jax.set_mesh(layout):
    batch = batches.place_batch(batch, layout)
    run = jax.jit(lambda p, b: model.apply({"params": p}, b, method=method))
    text = run.lower(params, batch).compile().as_text()
  received = 0.0
  for collective in collectives.read_collectives(text, SIZES):
    if "seq" in collective.axes:
      received += collective.bytes
  return model, received


def merged_first(model, batch):
  """Frames are merged on their device, as in training."""
  return model.embed(batch["frames"], batch["frame_segment_ids"] > 0, batch["images"][:, :0]).table


def gathered_first(model, batch):
  """Patches of all frames on every device, then merged."""
  frames = batch["frames"]
  tokens = constrain(model.encode_frames(frames, model.encoder.clip), "batch - - -")
  groups = model.selector(tokens, jnp.ones(frames.shape[:2], bool))
  return model.merge(groups.tokens)


@pytest.mark.parametrize("config", [packed_rows.FILA, packed_rows.FLASH], ids=["fila", "flash"])
def test_only_merged_tokens_travel(config):
  model, first = moved(config, merged_first)
  layout = model.layout()
  table = 2 * packed_rows.GROUPS * layout.tokens_per_group * model.llm.width * 4
  assert first <= 1.1 * table * 7 / 8  # The table, once; a few bytes of masks.
  _, other = moved(config, gathered_first)
  frames = packed_rows.GROUPS * layout.frames_per_group
  patches = 2 * frames * np.prod(model.encoder.grid) * model.encoder.width * 4
  assert other >= patches * 7 / 8 > 4 * first
