# SPDX-License-Identifier: Apache-2.0
"""The loss over rows whose visual tokens are dropped: packed or not, on any mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.packing import visual_order
from filax.models.components import build_video_lm
from filax.parallel import mesh
from filax.spec import RowShape, dropout_stages
from filax.train import step

pytestmark = pytest.mark.slow

CLIPS, TAIL = (4, 3, 0), (9, 6, 12)  # Clips of 4 frames, and words of a sample.
MODEL = dict(
  encoder=dict(name="umt", variant="tiny"),
  selector=dict(name="clips", size=4),
  merger=dict(name="tome", tokens=4),
  projector=dict(name="mlp", newline="none", pool_side=1),
  llm=dict(name="qwen2", variant="tiny", dropout=((1, "uniform", 0.75), (2, "attention", 0.25))),
)
ROW = RowShape(frames=28, images=0, length=256, segments=3)


def drawn(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example())["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def row(layout, numbers, shape=ROW):
  """A row of the samples `numbers`: head, clips, words of which the second half is learnt."""
  stages = layout.stages
  shape = dataclasses.replace(
    shape, room=dropout_stages.room(shape, layout), stages=len(stages), queries=4
  )
  out, token, frame = shape.zeros(layout.size), 0, 0
  for segment, n in enumerate(numbers, 1):
    rng = np.random.default_rng(n)
    visual = visual_order.placed(
      visual_order.video_order(CLIPS[n], layout), frame // 4 * layout.tokens_per_group, -1
    )
    size = 3 + len(visual) + TAIL[n]
    here, learnt = slice(token, token + size), np.arange(size) >= size - TAIL[n] // 2
    words = rng.integers(1, 500, size)
    out["tokens"][here], out["segment_ids"][here] = words, segment
    out["positions"][here] = np.arange(size)
    out["visual_index"][token + 3 : token + 3 + len(visual)] = visual
    out["targets"][token : token + size - 1] = words[1:]
    out["loss_mask"][token : token + size - 1] = learnt[1:]
    asks = dropout_stages.query_positions(learnt)
    out["queries"][segment - 1 : segment] = token + asks
    out["keep"][:, segment - 1] = dropout_stages.kept([len(visual)], stages)[:, 0]
    frames = 4 * CLIPS[n]
    out["frames"][frame : frame + frames] = rng.integers(
      0, 256, (frames, layout.size, layout.size, 3)
    )
    out["frame_segment_ids"][frame : frame + frames] = segment
    token, frame = token + size, frame + frames
  return out


def stack(rows):
  return {key: jnp.asarray(np.stack([r[key] for r in rows])) for key in rows[0]}


def grads(model, params, batch, reduction):
  loss = step.make_loss(model, reduction, chunk=16)

  def mean(params):
    total, sums = loss(params, batch, jax.random.key(0))
    return total / sums["count"], sums

  return jax.jit(jax.value_and_grad(mean, has_aux=True))(params)


def close(have, want):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4 * max(np.abs(b).max(), 1e-3)),
    have,
    want,
  )


@pytest.fixture(scope="module")
def packed():
  """(model, params, packed batch of three samples, its loss, sums and gradients)."""
  model = build_video_lm(MODEL)
  params = drawn(model)
  batch = stack([row(model.layout(), (0, 1, 2))] * 2)
  return model, params, batch, grads(model, params, batch, "sample_mean")


def test_packed_rows_equal_single_samples(packed):
  model, params, _, ((loss, sums), slopes) = packed
  alone = stack([row(model.layout(), (n,)) for n in range(3)])
  (loss_too, sums_too), slopes_too = grads(model, params, alone, "sample_mean")
  np.testing.assert_allclose(loss, loss_too, rtol=1e-5)
  for key in ("count", "supervised", "tokens", "frames", "left"):
    assert sums[key] == 2 * sums_too[key], key
  np.testing.assert_allclose(
    [sums[key] for key in ("passed", "pairs")],
    [2 * sums_too[key] for key in ("passed", "pairs")],
    rtol=1e-6,
  )
  assert sums["count"] == 6
  close(slopes, slopes_too)


def test_dropped_tokens_are_no_work(packed):
  model, _, batch, ((_, sums), _) = packed
  assert step.layer_shares(model) == (1 / 3, 1 / 3, 1 / 3)
  visual, text = np.array([64, 48, 0]), np.array(TAIL) + 3
  lengths = [text + visual, text + np.array([48, 36, 0]), text + np.array([16, 12, 0])]
  assert sums["tokens"] == 2 * lengths[0].sum() and sums["left"] == 2 * lengths[2].sum()
  np.testing.assert_allclose(sums["passed"], 2 * np.mean([n.sum() for n in lengths]), rtol=1e-6)
  np.testing.assert_allclose(
    sums["pairs"], 2 * np.mean([(n * (n + 1) / 2).sum() for n in lengths]), rtol=1e-6
  )
  plain = jax.jit(step.llm_work)(batch)
  assert plain["passed"] == plain["left"] == sums["tokens"]
  real = np.asarray(batch["segment_ids"]) > 0
  assert plain["pairs"] == (np.asarray(batch["positions"]) + 1)[real].sum()


def test_a_mesh_trains_the_same(packed):
  model, params, batch, ((loss, sums), slopes) = packed
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=2, seq=4, tensor=1))):
    (loss_too, sums_too), slopes_too = grads(model, params, batch, "sample_mean")
  np.testing.assert_allclose(loss_too, loss, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), sums_too, sums)
  close(slopes_too, slopes)


def test_dropping_changes_the_loss_and_off_is_the_plain_program(packed):
  _, params, batch, ((loss, _), _) = packed
  config = MODEL | dict(llm=dict(name="qwen2", variant="tiny"))
  plain, off = (
    build_video_lm(config),
    build_video_lm(MODEL | dict(llm=dict(name="qwen2", variant="tiny", dropout="off"))),
  )
  assert off == plain and not off.stages and off.layout().stages == ()
  whole = jax.jit(step.make_loss(plain, "sample_mean"))(params, batch, jax.random.key(0))
  assert abs(whole[0] / whole[1]["count"] - loss) > 1e-3
  assert whole[1]["count"] == 6


def test_encoding_in_parts_changes_nothing(packed):
  model, params, batch, _ = packed
  embed = jax.jit(
    lambda model, frames: model.apply(
      {"params": params},
      frames,
      jnp.ones(frames.shape[:2], bool),
      jnp.zeros((len(frames), 0, *frames.shape[2:]), jnp.uint8),
      method="embed",
    ),
    static_argnums=0,
  )
  want = embed(model, batch["frames"])
  have = embed(model.clone(encode_chunk=3), batch["frames"])
  np.testing.assert_allclose(have.table, want.table, atol=1e-5)
  np.testing.assert_array_equal(have.index, want.index)
  np.testing.assert_array_equal(have.mask, want.mask)
