# SPDX-License-Identifier: Apache-2.0
"""VideoLM joins the roles: packing, merge stages, the image lane and chunks change no number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.packing import visual_order
from filax.models.components import build_video_lm, dims_table
from filax.models.video_lm import STAGES
from filax.parallel.rules import leaf_path, parameter_spec
from filax.spec import RowShape

pytestmark = pytest.mark.slow

FRAMES, LENGTH = 6, 24  # Of one sample: 2 groups of 3.
ROW = RowShape(frames=2 * FRAMES, images=2, length=2 * LENGTH, segments=3)


def config(**changes):
  base = dict(
    encoder=dict(name="siglip", variant="tiny"),
    selector=dict(name="uniform", size=3),
    merger=dict(name="weighted"),
    projector=dict(name="mlp", newline="one_token", pool_side=2),
    llm=dict(name="qwen2", variant="tiny"),
    merge_stage="vision",
  )
  return base | changes


def drawn(model, seed=0):
  """Parameters at random, norms and fusion weights included."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example())["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def row(layout, shape, samples):
  """A packed row of samples (frames [T h w 3], pictures [I h w 3], text tokens)."""
  out = shape.zeros(layout.size)
  token = frame = image = 0
  for segment, (frames, pictures, text) in enumerate(samples, 1):
    video = visual_order.video_order(len(frames) // 3, layout) if len(frames) else np.zeros(0, int)
    first = frame // 3 * layout.tokens_per_group
    index = [visual_order.placed(video, first, layout.newline_index(shape))]
    for i in range(len(pictures)):
      start = layout.first_image(shape) + (image + i) * layout.tokens_per_image
      index.append(np.arange(start, start + layout.tokens_per_image))
    index = np.concatenate([*index, np.full(len(text), -1)])
    here = slice(token, token + len(index))
    out["tokens"][here.stop - len(text) : here.stop] = text
    out["visual_index"][here], out["segment_ids"][here] = index, segment
    out["positions"][here] = np.arange(len(index))
    out["frames"][frame : frame + len(frames)] = frames
    out["frame_segment_ids"][frame : frame + len(frames)] = segment
    out["images"][image : image + len(pictures)] = pictures
    out["image_segment_ids"][image : image + len(pictures)] = segment
    token, frame, image = here.stop, frame + len(frames), image + len(pictures)
  return {key: jnp.asarray(value)[None] for key, value in out.items()}


def samples(layout, seed=0):
  """A video with a picture, text alone, and a video."""
  rng = np.random.default_rng(seed)

  def pixels(n):
    return jnp.asarray(rng.integers(0, 256, (n, layout.size, layout.size, 3), dtype=np.uint8))

  def text(n):
    return rng.integers(0, 512, n)

  return [
    (pixels(FRAMES), pixels(1), text(4)),
    (pixels(0), pixels(0), text(6)),
    (pixels(FRAMES), pixels(0), text(3)),
  ]


def hidden(model, params, batch):
  """Hidden states [L D] of the real places of a row."""
  out = jax.jit(lambda p, b: model.apply({"params": p}, b))(params, batch)
  return np.asarray(out[0]), np.asarray(batch["segment_ids"][0])


@pytest.mark.parametrize("stage", STAGES)
def test_packed_rows_equal_single_rows(stage):
  model = build_video_lm(config(merge_stage=stage))
  params, layout = drawn(model), model.layout()
  given = samples(layout)
  packed, segments = hidden(model, params, row(layout, ROW, given))
  assert np.isfinite(packed).all()
  for number, sample in enumerate(given, 1):
    alone, real = hidden(model, params, row(layout, ROW, [sample]))
    scale = np.abs(alone).max()
    np.testing.assert_allclose(
      packed[segments == number] / scale, alone[real == 1] / scale, atol=1e-5
    )


def test_fusing_after_the_mlp_and_after_the_pooling_agree_for_equal_patches():
  """One weight a frame for all patches commutes with the pooling, which is linear."""
  embed = jax.jit(tables, static_argnums=0)
  models = [build_video_lm(config(merge_stage=stage)) for stage in ("projector", "pool")]
  params = drawn(models[0])
  frames, _, _ = samples(models[0].layout())[0]
  found = []
  for model, patches in zip(models, (9, 4), strict=True):
    weight = jnp.broadcast_to(
      jnp.array([0.5, 0.3, 0.2])[:, None, None], (3, patches, model.llm.width)
    )
    found.append(embed(model, params | {"merger": {"weight": weight}}, frames))
  np.testing.assert_allclose(*found, atol=2e-5)


def tables(model, params, frames):
  """The visual table of one video."""
  none = jnp.zeros((1, 0, *frames.shape[1:]), jnp.uint8)
  mask = jnp.ones((1, len(frames)), bool)
  return model.apply({"params": params}, frames[None], mask, none, method="embed").table


def test_pictures_are_seen_alone_and_neither_merged_nor_pooled():
  model = build_video_lm(config())
  params, layout = drawn(model), model.layout()
  assert layout.image_grid == model.encoder.grid != layout.group_grid
  _, pictures, _ = samples(layout)[0]
  pair = jnp.concatenate([pictures, 255 - pictures])
  embed = jax.jit(
    lambda images: (
      model.apply(
        {"params": params},
        jnp.zeros((1, 0, layout.size, layout.size, 3), jnp.uint8),
        jnp.zeros((1, 0), bool),
        images,
        method="embed",
      ).table
    )
  )
  both, one = embed(pair[None]), embed(pictures[None])
  tokens = layout.tokens_per_image
  assert both.shape[1] == 2 * tokens + 1 and one.shape[1] == tokens + 1
  np.testing.assert_allclose(both[:, :tokens], one[:, :tokens], atol=1e-5)
  np.testing.assert_array_equal(both[0, -1], params["projector"]["image_newline"])


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
def test_encoding_in_chunks_changes_nothing(chunk):
  whole = build_video_lm(config())
  params, (frames, _, _) = drawn(whole), samples(whole.layout())[0]
  embed = jax.jit(tables, static_argnums=0)
  want = embed(whole, params, frames)
  np.testing.assert_allclose(
    embed(whole.clone(encode_chunk=chunk), params, frames), want, atol=1e-5, rtol=1e-5
  )


def test_encoding_in_chunks_keeps_the_gradient():
  whole = build_video_lm(config())
  params, (frames, _, _) = drawn(whole), samples(whole.layout())[0]

  def loss(params, model):
    return jnp.square(tables(model, params, frames)).mean()

  grad = jax.jit(jax.grad(loss), static_argnums=1)
  want, have = (grad(params, model) for model in (whole, whole.clone(encode_chunk=4)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), have, want)


def test_a_row_read_into_a_cache_equals_the_training_pass():
  model = build_video_lm(config())
  params, layout = drawn(model), model.layout()
  batch = row(layout, ROW, samples(layout)[:1])
  want, segments = hidden(model, params, batch)
  real = int((segments == 1).sum())

  def extend(model, batch):
    visual = model.embed(batch["frames"], batch["frame_segment_ids"] > 0, batch["images"])
    return model.extend(
      batch["tokens"],
      batch["positions"],
      model.llm.empty_cache(1, 2 * LENGTH),
      jnp.array([real]),
      visual.table,
      batch["visual_index"],
    )

  out, cache = jax.jit(lambda b: model.apply({"params": params}, b, method=extend))(batch)
  np.testing.assert_allclose(out[0, :real], want[:real], atol=1e-4, rtol=1e-4)
  assert cache.length.tolist() == [real]


def test_every_parameter_is_made_by_the_example_and_has_a_layout():
  table = dims_table(config())
  model = build_video_lm(config())
  leaves = jax.tree_util.tree_leaves_with_path(
    jax.eval_shape(model.init, jax.random.key(0), model.example())["params"]
  )
  paths = [leaf_path(path) for path, _ in leaves]
  assert {path.split("/")[0] for path in paths} == {"encoder", "merger", "projector", "llm"}
  for path, leaf in zip(paths, leaves, strict=True):
    assert len(parameter_spec(table, path, leaf[1].shape)) == len(leaf[1].shape)


def test_layouts_follow_from_the_parts():
  layout = build_video_lm(config()).layout()
  assert (layout.frames_per_group, layout.group_grid, layout.image_grid) == (3, (2, 2), (3, 3))
  assert layout.tokens_per_group == 4 and layout.newline == "one_token" and layout.size == 42
  assert (layout.clip, layout.frames_per_unit) == (1, 3)
  flash = build_video_lm(config(encoder=dict(name="umt", variant="tiny"))).layout()
  assert (flash.clip, flash.frames_per_unit) == (4, 12)
  assert layout.first_image(ROW) == 16 and layout.newline_index(ROW) == 16 + 2 * 9


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(merge_stage="later"), r"config\.model\.merge_stage='later' is unknown"),
    (dict(merger=dict(name="bsm"), merge_stage="vision"), "does not suit the merger"),
    (dict(colour="red"), r"Unknown key config\.model\.colour"),
    (dict(llm=dict(name="qwen2", variant="8B")), r"config\.model\.llm\.variant to one of tiny"),
    (dict(llm=dict(name="gpt2")), r"No file models/llms/gpt2\.py"),
    (dict(encoder=dict(name="siglip", variant="tiny", colour=1)), "takes no 'colour'"),
  ],
)
def test_what_does_not_fit_names_the_knob(changes, message):
  with pytest.raises(ValueError, match=message):
    build_video_lm(config(**changes)).layout()


def test_frames_that_are_no_whole_groups_name_the_knob():
  model = build_video_lm(config())
  size = model.encoder.size
  with pytest.raises(ValueError, match=r"config\.data\.sampling\.frames"):
    model.apply(
      {"params": drawn(model)},
      jnp.zeros((1, 4, size, size, 3), jnp.uint8),
      jnp.ones((1, 4), bool),
      jnp.zeros((1, 0, size, size, 3), jnp.uint8),
      method="embed",
    )
