# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import losses

pytestmark = pytest.mark.slow


def example(rows=2, length=13, width=8, vocab=40, seed=0):
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(rows, length, width)).astype(np.float32)
  head = rng.normal(size=(width, vocab)).astype(np.float32)
  targets = rng.integers(0, vocab, (rows, length)).astype(np.int32)
  return hidden, head, targets


def reference(hidden, head, targets, vocab):
  """nll, hit and the softmax in float64, from the definition."""
  logits = np.asarray(hidden, np.float64) @ np.asarray(head, np.float64)[:, :vocab]
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  nll = -np.log(np.take_along_axis(p, targets[..., None], -1))[..., 0]
  return nll, logits.argmax(-1) == targets, p


@pytest.mark.parametrize("chunk", [1, 4, 13, 64])
@pytest.mark.parametrize("padding", [0, 7])
def test_values(chunk, padding):
  hidden, head, targets = example()
  targets[0, :3] = (hidden[0, :3] @ head).argmax(-1)  # Some hits.
  wide = np.pad(head, ((0, 0), (0, padding)), constant_values=9.0)  # Would win if it were read.
  nll, hit = losses.cross_entropy(
    *map(jnp.asarray, (hidden, wide, targets)), chunk=chunk, vocab=head.shape[1]
  )
  expected, expected_hit, _ = reference(hidden, head, targets, head.shape[1])
  assert nll.dtype == jnp.float32
  np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(hit, expected_hit)
  assert hit.sum() >= 3


def test_ties_go_to_the_lower_index():
  zeros = jnp.zeros((1, 2, 4))
  _, hit = losses.cross_entropy(zeros, jnp.zeros((4, 5)), jnp.array([[0, 1]]))
  np.testing.assert_array_equal(hit, [[True, False]])


@pytest.mark.parametrize("chunk", [5, 13])
def test_gradient(chunk):
  hidden, head, targets = example()
  weight = np.random.default_rng(1).random(targets.shape).astype(np.float32)
  vocab = 37
  targets = np.minimum(targets, vocab - 1)

  def loss(hidden, head):
    nll, _ = losses.cross_entropy(hidden, head, jnp.asarray(targets), chunk=chunk, vocab=vocab)
    return (nll * weight).sum()

  got = jax.grad(loss, (0, 1))(jnp.asarray(hidden), jnp.asarray(head))
  _, _, p = reference(hidden, head, targets, vocab)
  slope = (p - np.eye(vocab)[targets]) * weight[..., None]
  np.testing.assert_allclose(got[0], slope @ head[:, :vocab].T, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    got[1][:, :vocab], np.einsum("RLD,RLV->DV", hidden, slope), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_array_equal(got[1][:, vocab:], 0)  # Padding columns learn nothing.


def test_head_gradient_keeps_float32_over_chunks():
  """In bfloat16 the sum over many chunks is rounded once, not once a chunk."""
  hidden, head, targets = example(rows=1, length=512)
  hidden, head = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(head, jnp.bfloat16)
  targets = jnp.asarray(targets)

  def grad(chunk):
    return jax.grad(lambda head: losses.cross_entropy(hidden, head, targets, chunk=chunk)[0].sum())(
      head
    )

  np.testing.assert_allclose(
    grad(8).astype(np.float32), grad(512).astype(np.float32), rtol=2**-7, atol=1e-3
  )


def test_memory_is_that_of_a_chunk():
  rows, length, width, vocab, chunk = 2, 256, 16, 4096, 32
  shapes = (
    jax.ShapeDtypeStruct((rows, length, width), jnp.float32),
    jax.ShapeDtypeStruct((width, vocab), jnp.float32),
    jax.ShapeDtypeStruct((rows, length), jnp.int32),
  )

  def dense(hidden, head, targets):
    logp = jax.nn.log_softmax(hidden @ head)
    return -jnp.take_along_axis(logp, targets[..., None], -1).sum()

  def chunked(hidden, head, targets):
    return losses.cross_entropy(hidden, head, targets, chunk=chunk)[0].sum()

  def temporary(f):
    compiled = jax.jit(jax.grad(f, (0, 1))).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  logits = rows * length * vocab * 4
  assert temporary(dense) > logits
  assert temporary(chunked) < 4 * logits * chunk / length + width * vocab * 8


def test_token_mean_divides_once():
  rng = np.random.default_rng(0)
  nll, mask = rng.random((4, 9)), (rng.random((4, 9)) < 0.3).astype(np.float32)
  nll[mask == 0] = np.nan  # What is not supervised leaves no trace.
  total, count = losses.token_mean(jnp.asarray(nll, jnp.float32), jnp.asarray(mask))
  np.testing.assert_allclose(total / count, nll[mask > 0].mean(), rtol=1e-6)


def test_sample_mean_is_the_mean_of_sample_means():
  segment_ids = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 3, 3, 3]], np.int32)
  mask = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 1, 1, 1, 0]], np.float32)
  nll = np.arange(12.0).reshape(2, 6).astype(np.float32)
  nll[mask == 0] = np.inf  # That of a target outside of the vocabulary.
  samples = [[0, 2], [4], [7, 8], [9, 10]]  # Row 1, segment 1 has no supervised token.
  expected = np.mean([np.mean(s) for s in samples])
  total, count = losses.sample_mean(*map(jnp.asarray, (nll, mask, segment_ids)), segments=3)
  assert count == 4
  np.testing.assert_allclose(total / count, expected, rtol=1e-6)
  parts = [
    losses.sample_mean(*(jnp.asarray(x[i : i + 1]) for x in (nll, mask, segment_ids)), 3)
    for i in range(2)
  ]
  np.testing.assert_allclose(sum(p[0] for p in parts) / sum(p[1] for p in parts), expected)


def test_no_supervised_token_is_no_nan():
  zeros = jnp.zeros((1, 4))
  total, count = losses.sample_mean(zeros, zeros, jnp.ones((1, 4), jnp.int32), 2)
  assert (total, count) == (0, 0)


def test_equal_on_a_mesh():
  hidden, head, targets = map(jnp.asarray, example(rows=4, length=16))
  f = jax.value_and_grad(lambda h, w: losses.cross_entropy(h, w, targets, chunk=4)[0].sum(), (0, 1))
  alone = f(hidden, head)
  mesh = jax.make_mesh(
    (2, 2, 2, 1), ("data", "fsdp", "seq", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 4
  )
  with jax.set_mesh(mesh):
    spread = jax.jit(f)(hidden, head)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), alone, spread)


def test_bad_chunk():
  with pytest.raises(ValueError, match=r"config\.optim\.loss_chunk"):
    losses.cross_entropy(*map(jnp.asarray, example()), chunk=0)
