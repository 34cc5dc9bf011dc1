# SPDX-License-Identifier: Apache-2.0
"""K-Means against sklearn, and what holds for any video: padding, order, repeats, still frames."""

import functools

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from filax.ops import kmeans

pytestmark = pytest.mark.slow

T, D, C = 24, 3, 4  # One shape for all property tests: one compilation.


@functools.partial(jax.jit, static_argnums=(2, 3))
def scenes(x, mask, count=C, seeds="farthest", key=None):
  return kmeans.scene_frames(x, mask, count, seeds=seeds, steps=20, key=key)


def blobs(seed, frames, clusters, width, spread=0.5):
  """Frames around `clusters` centres, and the cluster of each."""
  rng = np.random.default_rng(seed)
  owner = np.sort(rng.integers(0, clusters, frames))
  centers = 4 * rng.normal(size=(clusters, width))
  return (centers[owner] + spread * rng.normal(size=(frames, width))).astype(np.float32), owner


def everything(x):
  return jnp.ones(len(x), bool)


@pytest.mark.parametrize("steps", [1, 3, 50])
@pytest.mark.parametrize("seed", range(4))
def test_steps_equal_sklearn(seed, steps):
  x, _ = blobs(seed, 300, 9, 16, spread=3)
  init = x[np.random.default_rng(seed).choice(300, 12, replace=False)]
  reference = KMeans(12, init=init.astype(float), n_init=1, max_iter=steps, tol=0)
  reference.fit(x.astype(float))
  centers = kmeans.lloyd(jnp.asarray(x), everything(x), jnp.asarray(init), steps)
  np.testing.assert_allclose(centers, reference.cluster_centers_, atol=1e-4)
  owner, gap = kmeans.assign(jnp.asarray(x), everything(x), centers)
  np.testing.assert_array_equal(owner, reference.labels_)
  np.testing.assert_allclose(gap.sum(), reference.inertia_, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_end_at_rest_changes_no_bit(seed):
  x, _ = blobs(seed, 300, 9, 16, spread=3)
  init = jnp.asarray(x[np.random.default_rng(seed).choice(300, 12, replace=False)])
  x = jnp.asarray(x)
  centers = init
  moves = []
  for _ in range(50):
    before = centers
    centers = jax.jit(kmeans.update)(x, everything(x), before)
    moves.append(bool((centers != before).any()))
  assert moves[0] and not moves[-1], "it moves at first, and has come to rest"
  np.testing.assert_array_equal(kmeans.lloyd(x, everything(x), init, 50), centers)


@pytest.mark.parametrize("empty", [1, 3])
def test_empty_clusters_are_relocated_like_sklearn(empty):
  x, _ = blobs(7, 200, 6, 8, spread=2)
  far = np.full((empty, 8), 1e3) * np.arange(1, empty + 1)[:, None]  # Nobody's nearest centre.
  init = np.concatenate([x[:5], far]).astype(np.float32)
  reference = KMeans(5 + empty, init=init.astype(float), n_init=1, max_iter=50, tol=0)
  reference.fit(x.astype(float))
  centers = kmeans.lloyd(jnp.asarray(x), everything(x), jnp.asarray(init), 50)

  def order(a):
    return a[np.lexsort(np.round(a, 2).T)]  # Which empty cluster takes which is open.

  np.testing.assert_allclose(
    order(np.asarray(centers)), order(reference.cluster_centers_), atol=1e-4
  )


def test_padding_counts_in_no_mean():
  x = jnp.array([[4.0, 0.0], [-4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
  mask = jnp.array([True, True, False, False])
  moved = kmeans.update(x, mask, jnp.array([[3.0, 0.0], [-3.0, 1.0]]))
  np.testing.assert_array_equal(moved, [[4, 0], [-4, 0]])


def test_a_frame_that_differs_from_its_centre_by_rounding_is_no_scene():
  x = jnp.full((4, 2), 3.0)
  owner, _ = kmeans.assign(x, everything(x), jnp.array([[3.000001, 3.0], [50.0, 50.0]]))
  np.testing.assert_array_equal(owner, 0)


def test_a_centre_for_which_no_frame_is_left_stays():
  """Both kinds of frames are at their centres, so the third centre gets none of them."""
  x = jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
  centers = jnp.array([[1.0, 0.0], [-1.0, 0.0], [5.0, 5.0]])
  np.testing.assert_array_equal(kmeans.update(x, everything(x), centers), centers)


def test_large_offsets_keep_their_digits():
  x, owner = blobs(3, 256, 8, 32, spread=0.1)
  offset = np.zeros(32, np.float32)
  offset[5] = 3e3  # Raw features have channels like this one.
  index = np.asarray(scenes(jnp.asarray(x + offset), everything(x), 8))
  assert sorted(owner[index]) == list(range(8))
  np.testing.assert_array_equal(index, scenes(jnp.asarray(x), everything(x), 8))


@pytest.mark.parametrize("seeds", kmeans.SEEDS)
def test_representatives_are_the_members_nearest_to_their_centers(seeds):
  x, _ = blobs(11, 120, 6, 8, spread=2)
  key = jax.random.key(3)
  got = scenes(jnp.asarray(x), everything(x), 6, seeds, key)
  y = x.astype(float) - x.astype(float).mean(0)
  init = kmeans.SEEDS[seeds](kmeans.centred(jnp.asarray(x), everything(x)), everything(x), 6, key)
  fit = KMeans(6, init=np.asarray(init, float), n_init=1, max_iter=20, tol=0).fit(y)
  gap = np.square(y - fit.cluster_centers_[fit.labels_]).sum(-1)
  want = [min(np.flatnonzero(fit.labels_ == c), key=lambda i: gap[i]) for c in range(6)]
  np.testing.assert_array_equal(got, sorted(want))


def test_farthest_seeds_find_every_scene_and_need_no_key():
  for seed in range(5):
    x, owner = blobs(seed, 200, 10, 16)
    assert sorted(owner[np.asarray(scenes(jnp.asarray(x), everything(x), 10))]) == list(range(10))


def test_random_seeds_follow_the_key():
  x = jnp.asarray(blobs(0, 100, 3, 8, spread=3)[0])
  for seeds in ("random", "kmeans++"):
    centers = jax.jit(lambda key, seeds=seeds: kmeans.SEEDS[seeds](x, everything(x), 5, key))

    def draw(i, centers=centers):
      return np.asarray(centers(jax.random.key(i)))

    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.abs(draw(0) - draw(1)).max() > 0
    assert len(np.unique(draw(2), axis=0)) == 5


videos = st.lists(st.integers(0, 5), min_size=1, max_size=T)


def padded(contents, frames=T):
  """Frames with the given contents, then padding of a content of its own."""
  table = np.random.default_rng(0).normal(size=(7, D)).astype(np.float32)
  contents = [*contents, *[6] * (frames - len(contents))]
  return jnp.asarray(table[contents]), jnp.arange(frames)


@given(videos, st.sampled_from(list(kmeans.SEEDS)), st.integers(0, 3))
def test_any_video_has_distinct_sorted_real_representatives(contents, seeds, key):
  x, place = padded(contents)
  index = np.asarray(scenes(x, place < len(contents), C, seeds, jax.random.key(key)))
  assert (np.diff(index) >= 0).all() and index.min() >= 0 and index.max() < len(contents)
  assert len(set(index)) == min(C, len(contents))
  kinds = len(set(contents))
  assert len({contents[i] for i in index}) >= min(C, kinds)  # Different frames, not only indices.


@given(videos)
def test_what_padding_holds_does_not_matter(contents):
  x, place = padded(contents)
  real = place < len(contents)
  index = np.asarray(scenes(x, real))
  noise = jnp.where(real[:, None], x, 1e4 * (1 + place[:, None]))
  np.testing.assert_array_equal(index, scenes(noise, real))
  np.testing.assert_array_equal(index, scenes(jnp.where(real[:, None], x, jnp.nan), real))


@given(st.permutations(range(8)), st.integers(0, 5))
def test_order_inside_a_cluster_does_not_matter(order, seed):
  x, owner = blobs(seed, T, 3, D)
  first = np.flatnonzero(owner == owner[0])
  order = np.array([i for i in order if i < len(first)])
  shuffled = x.copy()
  shuffled[first[: len(order)]] = x[first[order]]
  before, after = (np.asarray(scenes(jnp.asarray(v), everything(x), 3)) for v in (x, shuffled))
  # Sums in another order differ in the last digit, so compare the frames that were chosen.
  np.testing.assert_array_equal(np.unique(x[before], axis=0), np.unique(shuffled[after], axis=0))


def test_repeating_every_frame_keeps_the_scenes():
  x, owner = blobs(2, 40, 5, 8)
  twice = np.repeat(x, 3, axis=0)
  index = np.asarray(scenes(jnp.asarray(twice), everything(twice), 5))
  np.testing.assert_array_equal(index // 3, scenes(jnp.asarray(x), everything(x), 5))
  assert sorted(owner[index // 3]) == list(range(5))


@pytest.mark.parametrize("scale", [0, 1, 1e3])
def test_still_video_is_spread_over_time(scale):
  frame = scale * np.random.default_rng(0).normal(size=D)
  x = jnp.asarray(np.tile(frame, (T, 1)), jnp.float32)
  index = np.asarray(scenes(x, jnp.arange(T) < 21))
  np.testing.assert_array_equal(index, [0, 5, 10, 20])


def test_large_still_video_has_no_scenes_from_rounding():
  x = jnp.asarray(np.tile(np.random.default_rng(0).normal(size=16), (5000, 1)), jnp.float32)
  index = np.asarray(scenes(x, everything(x), 5))
  np.testing.assert_array_equal(index, [0, 1249, 2499, 3749, 4999])


def test_fewer_frames_than_scenes_repeat_evenly():
  x, _ = blobs(0, 8, 3, D)
  np.testing.assert_array_equal(scenes(jnp.asarray(x), jnp.arange(8) < 3, 6), [0, 0, 0, 1, 1, 2])
  np.testing.assert_array_equal(scenes(jnp.asarray(x), jnp.arange(8) < 1, 6), [0] * 6)
  assert np.asarray(scenes(jnp.asarray(x), jnp.zeros(8, bool), 6)).shape == (6,)
  few = np.asarray(scenes(jnp.asarray(x), everything(x), 12))  # More scenes than slots.
  assert few.shape == (12,) and set(few) == set(range(8)) and (np.diff(few) >= 0).all()


def test_fill_takes_the_largest_gap_first():
  used = jnp.zeros(12, bool).at[jnp.array([0, 2, 11])].set(True)
  np.testing.assert_array_equal(kmeans.fill(used, jnp.ones(12, bool), 4), [0, 2, 6, 11])
  np.testing.assert_array_equal(kmeans.fill(used, jnp.ones(12, bool), 5), [0, 2, 4, 6, 11])


def test_videos_of_a_batch_do_not_interact():
  x = jnp.stack([jnp.asarray(blobs(s, T, 4, D)[0]) for s in range(3)])
  mask = jnp.arange(T) < jnp.array([24, 17, 3])[:, None]
  together = jax.jit(jax.vmap(scenes))(x, mask)
  for i in range(3):
    np.testing.assert_array_equal(together[i], scenes(x[i], mask[i]))


def test_ten_thousand_candidates_are_only_traced_here():
  shape = jax.ShapeDtypeStruct((10_000, 1152), jnp.float32)
  mask = jax.ShapeDtypeStruct((10_000,), bool)
  out = jax.eval_shape(lambda x, m: kmeans.scene_frames(x, m, 512), shape, mask)
  assert (out.shape, out.dtype) == ((512,), jnp.int32)


def test_unknown_seeds_name_the_knob():
  with pytest.raises(ValueError, match=r"config\.infer\.selector .*farthest, random, kmeans\+\+"):
    kmeans.seeding("evenly")
