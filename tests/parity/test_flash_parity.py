# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash from frames to logits against a torch twin: undropped, dropped, step by step."""

import hf_qwen2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch import nn
from twins import flash, umt

from filax.models.components import build_video_lm
from filax.spec import RowShape, dropout_stages

pytestmark = pytest.mark.slow

FRAMES, TOKENS, FIRST, VOCAB = 8, 4, 5, 97
SHOWN = FRAMES * TOKENS  # Visual tokens, after FIRST words.
LENGTH, QUERIES = FIRST + SHOWN + 14, (FIRST - 2, FIRST + SHOWN + 3, FIRST + SHOWN + 9)
STAGES = {
  "off": (),
  "uniform": ((1, "uniform", 0.75),),
  "uniform0_attention": ((1, "uniform", 0.75), (3, "attention", 0.25)),
  "attention twice": ((1, "attention", 0.6), (2, "attention", 0.3)),
}
LLM = dict(hf_qwen2.SIZES, depth=4)
SIZES = dict(size=32, width=32, depth=2, heads=4, mlp=64, patch=8, trained=(4, 4))


@pytest.fixture(scope="module")
def parts():
  """(tower, projector, llm) in torch, and all of their parameters in the layout of FiLax."""
  tower = umt.random_(umt.UMT(**SIZES))
  projector = umt.random_(nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 32)), seed=1)
  llm, _, params = hf_qwen2.pair(depth=4)

  def linear(n):
    return dict(
      kernel=projector[n].weight.detach().numpy().T, bias=projector[n].bias.detach().numpy()
    )

  return (tower, projector, llm), jax.tree.map(
    jnp.asarray,
    dict(
      encoder=umt.parameters(tower.state_dict(), SIZES["heads"]),
      llm=params,
      projector=dict(linear_1=linear(0), linear_2=linear(2)),
    ),
  )


def pair(parts, stages):
  """(twin, ours)."""
  return flash.Flash(*parts[0], heads=4, tokens=TOKENS, stages=stages), build_video_lm(
    dict(
      encoder=dict(name="umt", **SIZES),
      selector=dict(name="clips", size=4),
      merger=dict(name="tome", tokens=TOKENS, heads=4),
      projector=dict(name="mlp", newline="none", pool_side=1),
      llm=dict(name="qwen2", theta=1e4, positions=1024, dropout=stages, **LLM),
    )
  )


def drawn(length=LENGTH):
  """(frames, ids): every id is another, so that it tells a place."""
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (FRAMES, 32, 32, 3), np.uint8), rng.permutation(VOCAB)[:length]


def batch(model, frames, ids, queries):
  """The row of one sample."""
  stages = model.stages
  room = dropout_stages.room(RowShape(FRAMES, 0, 64, 1), model.layout())
  shape = RowShape(FRAMES, 0, 64, 1, len(queries), len(stages), room)
  row, real = shape.zeros(32), slice(0, len(ids))
  row["frames"][:], row["frame_segment_ids"][:] = frames, 1
  row["tokens"][real], row["segment_ids"][real] = ids, 1
  row["positions"][real], row["queries"][:] = np.arange(len(ids)), queries
  row["visual_index"][FIRST : FIRST + SHOWN] = np.arange(SHOWN)
  row["keep"][:, 0] = dropout_stages.kept([SHOWN], stages)[:, 0]
  return {key: jnp.asarray(value)[None] for key, value in row.items()}


@pytest.mark.parametrize("name", STAGES)
def test_logits_and_kept_tokens_equal_the_twin(parts, name):
  twin, ours = pair(parts, STAGES[name])
  frames, ids = drawn()
  want, history = twin(frames, ids, FIRST, QUERIES)

  def run(params, batch):
    if not ours.stages:
      hidden, left = ours.apply({"params": params}, batch), batch
    else:
      hidden, left = ours.apply({"params": params}, batch, method="shortened")
    return ours.apply({"params": params}, hidden, method="logits")[0], left["targets"][0]

  logits, following = jax.jit(run)(parts[1], batch(ours, frames, ids, QUERIES))
  np.testing.assert_allclose(logits[: len(want)], want, atol=1e-4, rtol=0)
  if history:
    np.testing.assert_array_equal(following[: len(want) - 1], ids[history[-1]][1:])
    assert [len(kept) for kept in history] == [
      LENGTH - SHOWN + int(SHOWN * ratio) for _, _, ratio in STAGES[name]
    ]


def test_prefill_and_every_step_of_decoding_equal_the_twin(parts):
  """The last token of the prompt selects; what follows is given."""
  twin, ours = pair(parts, STAGES["uniform0_attention"])
  frames, ids = drawn(LENGTH + 6)
  want, _ = twin(frames, ids, FIRST, [LENGTH - 1])
  row = batch(ours, frames, ids[:LENGTH], ())

  def run(params, row, after):
    def apply(*args, **options):
      return ours.apply({"params": params}, *args, **options)

    table = apply(row["frames"], row["frame_segment_ids"] > 0, row["images"], method="embed").table
    room = tuple(64 - SHOWN + n for n in dropout_stages.kept([SHOWN], ours.stages)[:, 0].tolist())
    hidden, cache = apply(
      row["tokens"],
      jnp.array([LENGTH]),
      table,
      row["visual_index"],
      row["keep"],
      room,
      6,
      64,
      method="prefill",
    )
    made = [hidden[:, None]]
    for token in after:
      hidden, cache = apply(token[None, None], cache.length[:, None], cache, method="extend")
      made.append(hidden)
    return apply(jnp.concatenate(made, 1), method="logits")[0]

  logits = jax.jit(run)(parts[1], row, jnp.asarray(ids[LENGTH:]))
  np.testing.assert_allclose(logits, want[-7:], atol=1e-4, rtol=0)
