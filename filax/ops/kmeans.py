# SPDX-License-Identifier: Apache-2.0
"""K-Means over the frames of one video (FiLA-Video, Eq. 2-4): static shapes, fixed steps.

T frames with features of D numbers, C clusters, `mask` False for padding. Everything is float32 and
products have full precision: scenes differ in the last digits of large features. Map over videos
with `jax.vmap`.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from filax.ops.uniform import spread

# Squared distance to its centre, relative to its own size, up to which a frame *is* its centre: the
# mean of n equal vectors is off by rounding.
_SAME = 1e-8


def scenes(
  x: Float[Array, "T D"],
  mask: Bool[Array, "T"],
  count: int,
  *,
  seeds: str = "farthest",
  steps: int = 50,
  key: PRNGKeyArray | None = None,
) -> Int[Array, "C"]:
  """The representative frames of `count` scenes, int32, ascending.

  Indices are distinct if the video has `count` real frames, else all real frames are used and
  repeats are spread evenly. `seeds` is a name in SEEDS; `key` (default: key 0)
  feeds the random ones.
  """
  x = centred(x, mask)
  centers = seeding(seeds)(x, mask, count, jax.random.key(0) if key is None else key)
  centers = lloyd(x, mask, centers, steps)
  return representatives(x, mask, centers)


def centred(x: Float[Array, "T D"], mask: Bool[Array, "T"]) -> Float[Array, "T D"]:
  """float32 features minus the mean of the real frames; padding becomes 0.

  Distances stay the same and lose less to rounding where all frames share a large offset.
  """
  x = jnp.where(mask[:, None], x.astype(jnp.float32), 0)
  mean = x.sum(0) / jnp.maximum(mask.sum(), 1)
  return jnp.where(mask[:, None], x - mean, 0)


def lloyd(
  x: Float[Array, "T D"], mask: Bool[Array, "T"], centers: Float[Array, "C D"], steps: int = 50
) -> Float[Array, "C D"]:
  """`steps` rounds of assignment and update."""
  return lax.fori_loop(0, steps, lambda _, c: update(x, mask, c), centers)


def update(
  x: Float[Array, "T D"], mask: Bool[Array, "T"], centers: Float[Array, "C D"]
) -> Float[Array, "C D"]:
  """One Lloyd step. A centre that owns no frame, not even a relocated one, stays where it is."""
  owner, _ = assign(x, mask, centers)
  member = jax.nn.one_hot(owner, centers.shape[0]) * mask[:, None]
  total = jnp.einsum("TC,TD->CD", member, x, precision=lax.Precision.HIGHEST)
  count = member.sum(0)[:, None]
  return jnp.where(count > 0, total / jnp.maximum(count, 1), centers)


def assign(
  x: Float[Array, "T D"], mask: Bool[Array, "T"], centers: Float[Array, "C D"]
) -> tuple[Int[Array, "T"], Float[Array, "T"]]:
  """The cluster of every frame and its squared distance to that cluster's centre.

  Clusters that would be empty take the frames farthest from their centres (sklearn's rule), as long
  as there are frames that differ from their centre.
  """
  owner = nearest(x, centers)
  gap = jnp.square(x - centers[owner]).sum(-1)
  clusters, frames = centers.shape[0], x.shape[0]
  empty = ~jnp.zeros(clusters, bool).at[owner].max(mask)
  movable = mask & (gap > _SAME * jnp.square(x).sum(-1))
  farness, farthest = lax.top_k(jnp.where(movable, gap, -1), min(clusters, frames))
  turn = jnp.cumsum(empty) - 1  # The i-th empty cluster takes the i-th farthest frame.
  given = empty & (turn < farness.shape[0])
  turn = jnp.clip(turn, 0, farness.shape[0] - 1)
  taken = jnp.where(given & (farness[turn] > 0), farthest[turn], frames)
  owner = owner.at[taken].set(jnp.arange(clusters, dtype=owner.dtype), mode="drop")
  return owner, gap.at[taken].set(0, mode="drop")


def nearest(x: Float[Array, "T D"], centers: Float[Array, "C D"]) -> Int[Array, "T"]:
  """The nearest centre of every frame (Eq. 2); a tie goes to the lower index."""
  dots = jnp.einsum("TD,CD->TC", x, centers, precision=lax.Precision.HIGHEST)
  return jnp.argmin(jnp.square(centers).sum(-1) - 2 * dots, axis=-1).astype(jnp.int32)


def representatives(
  x: Float[Array, "T D"], mask: Bool[Array, "T"], centers: Float[Array, "C D"]
) -> Int[Array, "C"]:
  """Of every cluster the member nearest to its centre, int32, in time order.

  A centre is no frame; the member nearest to it is, and belongs to one cluster only. Clusters that
  stay empty (still video) are replaced by `fill`.
  """
  clusters = centers.shape[0]
  owner, gap = assign(x, mask, centers)
  own = (owner == jnp.arange(clusters)[:, None]) & mask
  best = jnp.argmin(jnp.where(own, gap, jnp.inf), axis=-1)
  used = jnp.zeros(mask.shape, bool).at[best].max(own.any(-1))
  return fill(used, mask, clusters)


def fill(used: Bool[Array, "T"], mask: Bool[Array, "T"], count: int) -> Int[Array, "count"]:
  """`count` indices, int32, ascending: the used frames and, while they are too few, more of them.

  Each addition is the unused real frame that is farthest in time from a used one, so the largest
  gap first. When no real frame is left, used ones are repeated, spread evenly.
  """
  place = jnp.arange(mask.shape[0])

  def add(_, used):
    before = lax.cummax(jnp.where(used, place, -mask.shape[0]))
    after = lax.cummin(jnp.where(used, place, 2 * mask.shape[0]), reverse=True)
    gap = jnp.where(mask & ~used, jnp.minimum(place - before, after - place), 0)
    pick = (place == jnp.argmax(gap)) & (gap > 0) & (used.sum() < count)
    return used | pick

  return spread(lax.fori_loop(0, count, add, used), count)


def farthest(x, mask, count: int, key) -> Float[Array, "C D"]:
  """The frame nearest to the mean, then always the frame farthest from those before.

  Deterministic, and independent of the order of frames but for ties. Expects `centred` features.
  """
  del key
  first = jnp.argmin(jnp.where(mask, jnp.square(x).sum(-1), jnp.inf))

  def pick(state, _):
    gap, index = state
    gap = jnp.minimum(gap, jnp.square(x - x[index]).sum(-1))
    return (gap, jnp.argmax(jnp.where(mask, gap, -1))), index

  _, index = lax.scan(pick, (jnp.full(mask.shape, jnp.inf), first), None, length=count)
  return x[index]


def random(x, mask, count: int, key) -> Float[Array, "C D"]:
  """Different real frames drawn at random (the paper's words), repeated if there are too few."""
  order = jnp.argsort(jnp.where(mask, jax.random.uniform(key, mask.shape), 2))
  return x[order[jnp.arange(count) % jnp.maximum(mask.sum(), 1)]]


def plus_plus(x, mask, count: int, key) -> Float[Array, "C D"]:
  """k-means++: each centre is drawn with a probability that grows with the squared distance."""

  def pick(gap, key):
    index = jax.random.categorical(key, jnp.where(mask, jnp.log(gap + 1e-30), -jnp.inf))
    return jnp.minimum(gap, jnp.square(x - x[index]).sum(-1)), index

  _, index = lax.scan(pick, jnp.full(mask.shape, 1e30), jax.random.split(key, count))
  return x[index]


SEEDS = {"farthest": farthest, "random": random, "kmeans++": plus_plus}


def seeding(name: str) -> Callable[..., Float[Array, "C D"]]:
  """The function (x, mask, count, key) -> centres behind a selector's `seeds`."""
  if name not in SEEDS:
    raise ValueError(
      f"Selector kmeans knows no seeds {name!r}. Set seeds in config.infer.selector (or "
      f"config.model.selector) to one of {', '.join(SEEDS)}."
    )
  return SEEDS[name]
