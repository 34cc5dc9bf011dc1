# SPDX-License-Identifier: Apache-2.0
"""K-Means over the frames of one video (FiLA-Video, Eq. 2-4).

A video has T frames with features of D numbers; C is the number of clusters, and `mask` is False
for padding. All shapes and the number of steps are static. Use `jax.vmap` for several videos.

All numbers are float32 and products have full precision, because scenes may differ only in the last
digits of large features.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from filax.ops.uniform import evenly

EXACT = lax.Precision.HIGHEST
# A frame equals its centre if its squared distance, relative to its squared norm, is at most this:
# the mean of n equal vectors differs from them by rounding.
_SAME = 1e-8


def scene_frames(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  count: int,
  *,
  seeds: str = "farthest",
  steps: int = 50,
  key: PRNGKeyArray | None = None,
) -> Int[Array, "C"]:
  """The representative frames of `count` scenes, int32, ascending.

  The indices are distinct if the video has at least `count` real frames. Otherwise all real frames
  are used, and some are repeated, spread evenly. seeds: a name in SEEDS. key: for random seeds
  (default: key 0).
  """
  x = centred(lax.stop_gradient(x), mask)
  draw_centers = seeding(seeds)
  if key is None:
    key = jax.random.key(0)
  centers = draw_centers(x, mask, count, key)
  centers = lloyd(x, mask, centers, steps)
  return representatives(x, mask, centers)


def centred(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
) -> Float[Array, "T D"]:
  """Features minus the mean of the real frames, float32; padding becomes 0.

  Distances do not change. If all frames share a large offset, distances are rounded less.
  """
  x = jnp.where(mask[:, None], x.astype(jnp.float32), 0)
  mean = x.sum(0) / jnp.maximum(mask.sum(), 1)
  return jnp.where(mask[:, None], x - mean, 0)


def lloyd(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  centers: Float[Array, "C D"],
  steps: int = 50,
) -> Float[Array, "C D"]:
  """Moves the centres in at most `steps` rounds of assignment and update.

  The loop ends when no centre moves, because a further round would change nothing. It has no
  gradient.
  """

  def goes_on(state):
    step, _, is_moving = state
    return (step < steps) & is_moving

  def move(state):
    step, centers, _ = state
    moved = update(x, mask, centers)
    return step + 1, moved, (moved != centers).any()

  _, centers, _ = lax.while_loop(goes_on, move, (0, centers, True))
  return centers


def update(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  centers: Float[Array, "C D"],
) -> Float[Array, "C D"]:
  """One Lloyd step: every centre becomes the mean of its frames.

  Empty clusters first take a frame (see `assign`). A centre that still has no frame does not move.
  Distances are computed only if a cluster is empty, unless `jax.vmap` makes both cases one.
  """
  owner = nearest(x, centers)
  owner = lax.cond(
    clusters_with_frames(owner, mask, centers.shape[0]).all(),
    lambda: owner,
    lambda: fill_empty(x, mask, centers, owner)[0],
  )
  member = jax.nn.one_hot(owner, centers.shape[0], dtype=x.dtype)  # [T C]
  member = member * mask[:, None]
  total = jnp.einsum("TC,TD->CD", member, x, precision=EXACT)
  count = member.sum(0)[:, None]  # [C 1]
  has_frame = count > 0
  mean = total / jnp.maximum(count, 1)
  return jnp.where(has_frame, mean, centers)


def assign(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  centers: Float[Array, "C D"],
) -> tuple[Int[Array, "T"], Float[Array, "T"]]:
  """The cluster of every frame, and its squared distance.

  The distance is that of the frame to the centre of its cluster. An empty cluster takes the frame
  that is farthest from its centre (sklearn's rule), as long as there are frames that differ from
  their centre.

    owner = [0 0 0 2], distance = [1 5 2 0], cluster 1 is empty  ->  owner = [0 1 0 2]
  """
  return fill_empty(x, mask, centers, nearest(x, centers))


def fill_empty(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  centers: Float[Array, "C D"],
  owner: Int[Array, "T"],
) -> tuple[Int[Array, "T"], Float[Array, "T"]]:
  """`assign`, given the nearest centre of every frame."""
  distance = jnp.square(x - centers[owner]).sum(-1)
  clusters = centers.shape[0]
  frames = x.shape[0]
  empty = ~clusters_with_frames(owner, mask, clusters)
  size = jnp.square(x).sum(-1)
  movable = mask & (distance > _SAME * size)
  candidates = jnp.where(movable, distance, -1)
  # The i-th empty cluster takes the i-th farthest frame.
  farthest_distances, farthest_frames = lax.top_k(candidates, min(clusters, frames))
  count = farthest_distances.shape[0]
  rank = jnp.cumsum(empty) - 1  # Number of the cluster among the empty ones.
  has_candidate = empty & (rank < count)
  rank = jnp.clip(rank, 0, count - 1)
  takes = has_candidate & (farthest_distances[rank] > 0)
  taken = jnp.where(takes, farthest_frames[rank], frames)  # [C]; T means no frame.
  cluster = jnp.arange(clusters, dtype=owner.dtype)
  owner = owner.at[taken].set(cluster, mode="drop")
  distance = distance.at[taken].set(0, mode="drop")
  return owner, distance


def clusters_with_frames(
  owner: Int[Array, "T"], mask: Bool[Array, "T"], clusters: int
) -> Bool[Array, "C"]:
  """Whether each cluster has a real frame."""
  return jnp.zeros(clusters, bool).at[owner].max(mask)


def nearest(
  x: Float[Array, "T D"],
  centers: Float[Array, "C D"],
) -> Int[Array, "T"]:
  """The nearest centre of every frame (Eq. 2).

  A tie goes to the lower index. The squared distance is |x|² - 2 x·c + |c|². The term |x|² is left
  out, because it is the same for every centre.
  """
  dots = jnp.einsum("TD,CD->TC", x, centers, precision=EXACT)
  distance = jnp.square(centers).sum(-1) - 2 * dots
  return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def representatives(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  centers: Float[Array, "C D"],
) -> Int[Array, "C"]:
  """The frame nearest to each centre, int32 [C] in time order.

  The frames are distinct, because each frame belongs to one cluster. If clusters stay empty, as in
  a still video, `fill` adds other frames.
  """
  clusters = centers.shape[0]
  owner, distance = assign(x, mask, centers)
  cluster = jnp.arange(clusters)
  member = (owner == cluster[:, None]) & mask  # [C T]
  distance = jnp.where(member, distance, jnp.inf)
  best = jnp.argmin(distance, axis=-1)
  unused = jnp.zeros(mask.shape, bool)
  used = unused.at[best].max(member.any(-1))
  return fill(used, mask, clusters)


def fill(
  used: Bool[Array, "T"],
  mask: Bool[Array, "T"],
  count: int,
) -> Int[Array, "count"]:
  """The used frames and additional frames, `count` in total: int32 indices, ascending.

  Each added frame is the unused real frame that is farthest in time from the used frames, so the
  largest gap is filled first. When all real frames are used, some are repeated, spread evenly.

    used = frames 0 and 5 of 6, count = 3  ->  [0 2 5]

  In this example, frames 2 and 3 are both 2 frames away from a used frame; the earlier one is
  added.
  """
  frames = mask.shape[0]
  place = jnp.arange(frames)

  def use_one_more(_, used):
    before = lax.cummax(jnp.where(used, place, -frames))
    after = lax.cummin(jnp.where(used, place, 2 * frames), reverse=True)
    is_free = mask & ~used
    distance = jnp.minimum(place - before, after - place)
    gap = jnp.where(is_free, distance, 0)
    added = (place == jnp.argmax(gap)) & (gap > 0) & (used.sum() < count)
    return used | added

  used = lax.fori_loop(0, count, use_one_more, used)
  return evenly(used, count)


def farthest(x, mask, count: int, key) -> Float[Array, "C D"]:
  """Farthest-point seeds.

  The first seed is the frame nearest to the mean. Each further seed is the frame that is farthest
  from the seeds before it. The seeds are deterministic, and depend on the order of the frames only
  if there are ties. x must be `centred`.
  """
  del key
  from_mean = jnp.square(x).sum(-1)
  first = jnp.argmin(jnp.where(mask, from_mean, jnp.inf))

  def pick_next(state, _):
    distance, index = state  # Distances to the nearest seed; index of the newest seed.
    from_newest = jnp.square(x - x[index]).sum(-1)
    distance = jnp.minimum(distance, from_newest)
    candidates = jnp.where(mask, distance, -1)
    return (distance, jnp.argmax(candidates)), index

  start = (jnp.full(mask.shape, jnp.inf, x.dtype), first)
  _, index = lax.scan(pick_next, start, None, length=count)
  return x[index]


def random(x, mask, count: int, key) -> Float[Array, "C D"]:
  """Random real frames as seeds, as in the paper.

  The frames are distinct. If there are too few real frames, some are repeated.
  """
  number = jnp.where(mask, jax.random.uniform(key, mask.shape), 2)  # Padding comes last.
  order = jnp.argsort(number)
  rank = jnp.arange(count) % jnp.maximum(mask.sum(), 1)
  return x[order[rank]]


def plus_plus(x, mask, count: int, key) -> Float[Array, "C D"]:
  """k-means++ seeds.

  The probability of drawing a frame is proportional to its squared distance from the seeds.
  """

  def pick_next(distance, key):
    logits = jnp.where(mask, jnp.log(distance + 1e-30), -jnp.inf)
    index = jax.random.categorical(key, logits)
    from_newest = jnp.square(x - x[index]).sum(-1)
    return jnp.minimum(distance, from_newest), index

  start = jnp.full(mask.shape, 1e30, x.dtype)
  _, index = lax.scan(pick_next, start, jax.random.split(key, count))
  return x[index]


SEEDS = {"farthest": farthest, "random": random, "kmeans++": plus_plus}


def seeding(name: str) -> Callable[..., Float[Array, "C D"]]:
  """The function of a name in SEEDS.

  (x, mask, count, key) -> centres.
  """
  if name not in SEEDS:
    raise ValueError(
      f"Selector kmeans knows no seeds {name!r}. Set seeds in config.infer.selector (or "
      f"config.model.selector) to one of {', '.join(SEEDS)}."
    )
  return SEEDS[name]
