# SPDX-License-Identifier: Apache-2.0
"""Selectors: which frames, in which groups, for whole, padded, short and still videos."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import available, build
from filax.ops import history, kmeans

pytestmark = pytest.mark.slow

B, T, N, E = 2, 24, 2, 8


def video(seed=0, batch=B, frames=T):
  """Frame f of row b holds recognisable noise."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, frames, N, E)), jnp.float32)


def select(model, tokens, counts):
  mask = jnp.arange(tokens.shape[1]) < jnp.asarray(counts)[:, None]
  return jax.jit(lambda t, m: model.apply({}, t, m))(tokens, mask)


def check(groups, tokens):
  """Tokens are those that the index names, in time order."""
  index = np.asarray(groups.index)
  assert groups.index.dtype == jnp.int32 and groups.mask.dtype == bool
  for row in range(len(index)):
    np.testing.assert_array_equal(groups.tokens[row], np.asarray(tokens)[row][index[row]])
    assert (np.diff(index[row].reshape(-1)) >= 0).all()
  return index


@pytest.mark.parametrize("name", ["uniform", "clips"])
def test_consecutive_groups(name):
  model = build("selector", dict(name=name, size=4))
  tokens = video()
  groups = select(model, tokens, [T, 8])
  index = check(groups, tokens)
  np.testing.assert_array_equal(index[0].reshape(-1), np.arange(T))
  np.testing.assert_array_equal(groups.mask, [[True] * 6, [True] * 2 + [False] * 4])
  assert (model.groups(T), model.size, model.needs_single) == (6, 4, False)


def test_consecutive_groups_are_a_reshape():
  model = build("selector", dict(name="uniform"))
  jaxpr = str(jax.make_jaxpr(lambda t, m: model.apply({}, t, m))(video(), jnp.ones((B, T), bool)))
  assert "gather" not in jaxpr and "take" not in jaxpr


def test_frames_that_are_not_whole_groups_name_both_knobs():
  model = build("selector", dict(name="uniform", size=5))
  for knob in (r"config\.data\.sampling\.frames", r"config\.model\.selector\.size=5"):
    with pytest.raises(ValueError, match=knob):
      model.apply({}, video(), jnp.ones((B, T), bool))


def test_kmeans_is_representatives_with_history():
  order = "dissimilar"
  model = build("selector", dict(name="kmeans", scenes=4, size=3, history=order, steps=20))
  tokens = video()
  groups = select(model, tokens, [T, 15])
  index = check(groups, tokens)
  for row, count in enumerate([T, 15]):
    x, mask = tokens[row].mean(1), jnp.arange(T) < count
    scenes = jax.jit(lambda x, m: kmeans.scene_frames(x, m, 4, steps=20))(x, mask)
    supplement = jax.jit(lambda *a: history.supplement(*a, 3, order))
    np.testing.assert_array_equal(index[row], supplement(x, mask, scenes))
  assert groups.mask.all() and (model.groups(999), model.size, model.needs_single) == (4, 3, True)


@pytest.mark.parametrize(
  "selector",
  [
    dict(name="kmeans", scenes=4),
    dict(name="kmeans", scenes=4, seeds="kmeans++", seed=3),
    dict(name="bsm", scenes=4),
  ],
)
def test_padding_and_neighbours_do_not_matter(selector):
  model = build("selector", selector)
  tokens = video()
  groups = select(model, tokens, [T, 17])
  assert np.asarray(groups.index[1]).max() < 17
  noise = tokens.at[1, 17:].set(1e3).at[0].add(1.0)
  np.testing.assert_array_equal(select(model, noise, [T, 17]).index[1], groups.index[1])


@pytest.mark.parametrize("name", ["kmeans", "bsm"])
def test_short_videos_are_uniform(name):
  model = build("selector", dict(name=name, scenes=4, size=3))
  tokens = video(batch=3)
  groups = select(model, tokens, [7, 1, 0])
  index = check(groups, tokens)
  want = np.linspace(0, 6, 12).astype(int).reshape(4, 3)
  np.testing.assert_array_equal(index[0], want)
  assert (index[1] == 0).all()
  np.testing.assert_array_equal(groups.mask, [[True] * 4, [True] * 4, [False] * 4])


def test_still_video_has_all_its_groups():
  model = build("selector", dict(name="kmeans", scenes=4))
  tokens = jnp.ones((1, T, N, E))
  index = check(select(model, tokens, [T]), tokens)
  assert index.shape == (1, 4, 3) and len(set(index[0, :, -1])) == 4


def test_scenes_of_a_planted_video():
  """Five scenes of unequal length, two of them shorter than the step of uniform frames."""
  lengths, rng = [40, 3, 30, 4, 51], np.random.default_rng(5)
  owner = np.repeat(np.arange(5), lengths)
  x = rng.normal(size=(5, E))[owner][:, None] + 0.02 * rng.normal(size=(128, N, E))
  tokens = jnp.asarray(x[None], jnp.float32)

  def found(selector):
    return np.asarray(select(build("selector", selector), tokens, [128]).index[0])

  scenes = found(dict(name="kmeans", scenes=6))
  assert {o for group in owner[scenes] for o in group if (group == o).sum() >= 2} == set(range(5))
  uniform = np.linspace(0, 127, 18).astype(int).reshape(6, 3)
  assert len({o for group in owner[uniform] for o in group if (group == o).sum() >= 2}) == 3
  assert found(dict(name="bsm", scenes=6)).shape == (6, 3)


def test_no_gradient_flows_through_the_choice():
  model = build("selector", dict(name="kmeans", scenes=4))
  mask = jnp.ones((B, T), bool)
  grad = jax.jit(jax.grad(lambda t: model.apply({}, t, mask).tokens.sum()))(video())
  index = np.asarray(select(model, video(), [T, T]).index)
  times = np.stack([np.bincount(row.reshape(-1), minlength=T) for row in index])
  np.testing.assert_array_equal(grad, np.broadcast_to(times[..., None, None], grad.shape))


def test_bsm_needs_long_segments():
  model = build("selector", dict(name="bsm", scenes=7, size=3))
  with pytest.raises(ValueError, match=r"config\.infer\.sampling\.frames to 28"):
    model.apply({}, video(), jnp.ones((B, T), bool))


def test_full_size_is_static():
  for name in ("kmeans", "bsm"):
    model = build("selector", dict(name=name, scenes=32, size=3))
    tokens = jax.ShapeDtypeStruct((1, 256, 729, 1152), jnp.bfloat16)
    mask = jax.ShapeDtypeStruct((1, 256), bool)
    groups = jax.eval_shape(lambda t, m, model=model: model.apply({}, t, m), tokens, mask)
    assert groups.tokens.shape == (1, 32, 3, 729, 1152) and groups.index.shape == (1, 32, 3)


def test_every_selector_is_a_file_without_parameters():
  for name in available("selector"):
    model = build("selector", dict(name=name))
    frames = 132 if name in ("uniform", "clips") else 128

    def init(t, m, model=model):
      return model.init(jax.random.key(0), t, m)

    assert jax.eval_shape(init, video(frames=frames), jnp.ones((B, frames), bool)) == {}


def test_a_video_with_just_enough_frames_is_clustered():
  """Three equal frames are one scene and the fourth is another; fewer would be spread evenly."""
  x = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  model = build("selector", dict(name="kmeans", scenes=2, size=2))
  index = select(model, x[None, :, None], [4]).index[0]
  np.testing.assert_array_equal(index, [[0, 0], [1, 3]])
  np.testing.assert_array_equal(index[:, model.representative], [0, 3])


def test_the_settings_of_k_means_reach_it(monkeypatch):
  asked = {}

  def note(x, mask, count, **settings):
    asked.update(settings, count=count)
    return jnp.arange(count)

  monkeypatch.setattr(kmeans, "scene_frames", note)
  model = build("selector", dict(name="kmeans", scenes=3, size=2, seeds="random", steps=7))
  select(model, video(batch=1), [T])
  assert (asked["count"], asked["seeds"], asked["steps"]) == (3, "random", 7)
