# SPDX-License-Identifier: Apache-2.0
"""Token merging against a plain float64 loop written from the description."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import tome
from filax.parallel import mesh

pytestmark = pytest.mark.slow

merge = functools.partial(jax.jit, static_argnames=("target", "heads"))(tome.merge_clips)


def loop(x, target, heads):
  """One clip [p E] in float64, token by token -> tokens, sizes, and the sources of each token."""
  tokens = [np.asarray(row, np.float64) for row in x]
  sizes, sources = [1.0] * len(tokens), [[i] for i in range(len(tokens))]
  while len(tokens) > target:
    p = len(tokens)
    merged = p // 2 if p - target > p // 2 else p - target
    metric = [t.reshape(heads, -1).mean(0) for t in tokens]
    metric = [m / np.sqrt((m * m).sum()) for m in metric]
    best = []
    for a in range(0, p, 2):
      similar = [metric[a] @ metric[b] for b in range(1, p, 2)]
      best.append((max(similar), int(np.argmax(similar))))
    order = sorted(range(len(best)), key=lambda i: (-best[i][0], i))
    total = [tokens[b] * sizes[b] for b in range(1, p, 2)]
    size, source = sizes[1::2], [list(s) for s in sources[1::2]]
    for i in order[:merged]:
      partner = best[i][1]
      total[partner] = total[partner] + tokens[2 * i] * sizes[2 * i]
      size[partner] += sizes[2 * i]
      source[partner] += sources[2 * i]
    rest = [2 * i for i in order[merged:]]
    tokens = [tokens[i] for i in rest] + [t / s for t, s in zip(total, size, strict=True)]
    sizes, sources = [sizes[i] for i in rest] + size, [sources[i] for i in rest] + source
  return np.stack(tokens), np.asarray(sizes), sources


@pytest.mark.parametrize(
  ("tokens", "target", "merged"),
  [
    (784, 64, (392, 196, 98, 34)),
    (3136, 64, (1568, 784, 392, 196, 98, 34)),
    (196, 64, (98, 34)),
    (1024, 64, (512, 256, 128, 64)),
    (256, 64, (128, 64)),
    (784, 196, (392, 196)),
    (784, 784, ()),
    (7, 3, (3, 1)),
  ],
)
def test_the_schedule_is_the_released_one(tokens, target, merged):
  assert tome.schedule(tokens, target) == merged


def test_too_many_tokens_wanted_is_an_error():
  with pytest.raises(ValueError, match=r"49 tokens cannot be merged into 64\. Set config\.model"):
    tome.schedule(49, 64)


@pytest.mark.parametrize(("tokens", "target"), [(784, 64), (98, 64), (196, 16), (33, 9), (12, 12)])
def test_equals_a_float64_loop(tokens, target):
  x = np.random.default_rng(tokens).normal(size=(3, tokens, 32)).astype(np.float32)
  ours, sizes = merge(jnp.asarray(x), target, heads=4)
  for clip in range(3):
    expected, size, _ = loop(x[clip], target, heads=4)
    np.testing.assert_array_equal(sizes[clip], size)
    np.testing.assert_allclose(ours[clip], expected, atol=1e-5)


def test_the_last_step_puts_unmerged_tokens_first_by_similarity():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 98, 64)), jnp.float32)
  ours, sizes = merge(x, 64, heads=4)
  best, _ = tome.match(x, 4)
  rest = np.argsort(-np.asarray(best[0]), kind="stable")[34:]
  np.testing.assert_array_equal(ours[0, :15], x[0, 2 * rest])
  np.testing.assert_array_equal(sizes[0, :15], 1)


def test_ties_go_to_the_lower_index():
  powers = 2.0 ** jnp.arange(8)  # All pairs are equally similar, exactly.
  ours, sizes = merge(powers[None, :, None] * jnp.ones((1, 8, 4)), 6, heads=2)
  np.testing.assert_allclose(ours[0, :, 0], [16, 64, (2 + 1 + 4) / 3, 8, 32, 128], rtol=1e-6)
  np.testing.assert_array_equal(sizes[0], [1, 1, 3, 1, 1, 1])


def test_the_weighted_sum_is_conserved():
  x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 784, 16)), jnp.float32)
  ours, sizes = merge(x, 64, heads=4)
  np.testing.assert_array_equal(sizes.sum(1), [784, 784])
  np.testing.assert_allclose((ours * sizes[..., None]).sum(1), x.sum(1), atol=1e-3)


def test_gradients_flow_through_averages_only():
  x = np.random.default_rng(2).normal(size=(28, 8)).astype(np.float32)
  weight = np.random.default_rng(3).normal(size=(6, 8)).astype(np.float32)
  ours = jax.grad(lambda x: (tome.merge_clips(x[None], 6, heads=2)[0][0] * weight).sum())(
    jnp.asarray(x)
  )
  _, sizes, sources = loop(x, 6, heads=2)
  expected = np.zeros_like(x)
  for row, size, source in zip(weight, sizes, sources, strict=True):
    expected[source] = row / size
  np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_chunks_and_single_clips_give_the_same_numbers():
  x = jnp.asarray(np.random.default_rng(4).normal(size=(5, 40, 16)), jnp.float32)
  whole, sizes = merge(x, 12, heads=4)
  parts, part_sizes = jax.jit(lambda x: tome.merge_clips(x, 12, heads=4, chunk=2))(x)
  np.testing.assert_allclose(parts, whole, atol=1e-6)
  np.testing.assert_array_equal(part_sizes, sizes)
  np.testing.assert_allclose(merge(x[3:4], 12, heads=4)[0][0], whole[3], atol=1e-6)


def test_clips_on_a_mesh_are_merged_without_communication():
  layout = mesh.make_mesh(dict(data=1, fsdp=2, seq=2, tensor=2))
  x = jnp.asarray(np.random.default_rng(5).normal(size=(8, 49, 16)), jnp.float32)
  whole, _ = merge(x, 20, heads=4)
  with jax.set_mesh(layout):
    spread = jax.NamedSharding(layout, jax.P(("data", "fsdp", "seq")))
    run = jax.jit(lambda x: tome.merge_clips(x, 20, heads=4)[0], out_shardings=spread)
    x = jax.device_put(x, spread)
    np.testing.assert_allclose(run(x), whole, atol=1e-6)
    text = run.lower(x).compile().as_text()
  assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "permute("))


def test_tokens_of_zeros_stay_finite_and_dtype_is_kept():
  ours, _ = merge(jnp.zeros((1, 16, 8), jnp.bfloat16), 4, heads=2)
  assert ours.dtype == jnp.bfloat16
  assert np.isfinite(np.asarray(ours, np.float32)).all()


def test_similarity_does_not_depend_on_the_size_of_tokens():
  """The released cosine has no epsilon: tiny tokens match as large ones do."""
  x = jax.random.normal(jax.random.key(5), (1, 12, 8))
  similarity, partner = tome.match(x, heads=2)
  for scale in (1e-9, 1e9):
    scaled, scaled_partner = tome.match(scale * x, heads=2)
    np.testing.assert_allclose(scaled, similarity, rtol=1e-5)
    np.testing.assert_array_equal(scaled_partner, partner)
