# SPDX-License-Identifier: Apache-2.0
"""Visual dropout of packed rows against one sample at a time, dense and in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.layers import RMSNorm
from filax.models.llms import qwen2
from filax.ops import rope, visual_dropout
from filax.parallel import mesh, zigzag
from filax.spec import dropout_stages

pytestmark = pytest.mark.slow

# (head text, visual, tail text), queries of the samples of a row.
SAMPLES = (((3, 9, 4), (2, 5)), ((2, 14, 6), (3,)), ((5, 0, 2), ()))


def places(samples=SAMPLES, length=56, rows=2, slots=6, seed=0):
  """Rows of packed samples: (head text, visual, tail text) counts; queries count into the tail."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(1, 90, (rows, length))
  labels = (rng.random((rows, length)) < 0.4).astype(np.float32)
  segments, positions = np.zeros((2, rows, length), np.int32)
  visual, queries = np.zeros((rows, length), bool), np.full((rows, slots), -1, np.int32)
  at = used = 0
  for n, ((head, middle, tail), asked) in enumerate(samples):
    size = head + middle + tail
    segments[:, at : at + size], positions[:, at : at + size] = n + 1, np.arange(size)
    visual[:, at + head : at + head + middle] = True
    for query in asked:
      queries[:, used] = at + head + middle + query - 1
      used += 1
    at += size
  labels *= ~visual & (segments > 0)
  arrays = (segments, positions, visual, queries, tokens.astype(np.int32), labels)
  return visual_dropout.Row(*map(jnp.asarray, arrays))


def dense_scores(q, k, queries):
  """One sample in float64: q [L H d], k [L K d], places of its queries -> [L]."""
  q, k = np.float64(q), np.float64(k)
  length, heads, d = q.shape
  k = np.repeat(k, heads // k.shape[1], axis=1)
  total = np.zeros(length)
  for query in queries:
    for head in range(heads):
      logits = k[: query + 1, head] @ q[query, head] / np.sqrt(d)
      weight = np.exp(logits - logits.max())
      total[: query + 1] += weight / weight.sum()
  return total / (heads * max(len(queries), 1))


def top(scores, visual, keep):
  """Kept places of one sample: text, and the `keep` best visual tokens, ties to the lower."""
  best = sorted(np.flatnonzero(visual), key=lambda i: (-scores[i], i))[:keep]
  return np.sort(np.concatenate([np.flatnonzero(~visual), best]).astype(int))


def members(row, n, line=0):
  return np.flatnonzero(np.asarray(row.segment_ids[line]) == n)


def random_qk(row, heads=4, kv_heads=2, d=8, seed=1):
  rng = np.random.default_rng(seed)
  shape = row.segment_ids.shape

  def draw(h):
    return jnp.asarray(rng.normal(size=(*shape, h, d)), jnp.float32)

  return draw(heads), draw(kv_heads)


@pytest.mark.parametrize("block", [1, 2, 8])
def test_scores_equal_dense_attention_of_each_sample(block):
  row = places()
  q, k = random_qk(row)
  ours = visual_dropout.attention_scores(
    visual_dropout.move(q, row.queries),
    k,
    visual_dropout.query_places(row),
    visual_dropout.row_places(row),
    block,
  )
  for line in range(2):
    for n in (1, 2, 3):
      inside = members(row, n, line)
      queries = [i - inside[0] for i in np.asarray(row.queries[line]) if i in inside]
      expected = dense_scores(q[line, inside], k[line, inside], queries)
      np.testing.assert_allclose(ours[line, inside], expected, atol=1e-6)


def test_scores_need_memory_for_a_few_queries_only():
  length = 1 << 15

  def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)

  def at(n):
    return (shape(1, n, dtype=jnp.int32),) * 2

  run = (
    jax.jit(visual_dropout.attention_scores)
    .lower(shape(1, 16, 4, 8), shape(1, length, 2, 8), at(16), at(length))
    .compile()
  )
  assert run.memory_analysis().temp_size_in_bytes < 16 * 4 * 4 * 4 * length  # 16 such arrays.


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_selection_keeps_the_same_places_as_each_sample_alone(ratio):
  row = places()
  q, k = random_qk(row)
  keep = np.asarray([int(n * ratio) for n in (9, 14, 0)] + [0])
  scores = visual_dropout.attention_scores(
    visual_dropout.move(q, row.queries),
    k,
    visual_dropout.query_places(row),
    visual_dropout.row_places(row),
  )
  kept = visual_dropout.keep_attended(row, scores, jnp.asarray([keep, keep]))
  for line in range(2):
    for n in (1, 2, 3):
      inside = members(row, n, line)
      queries = [i - inside[0] for i in np.asarray(row.queries[line]) if i in inside]
      expected = top(
        dense_scores(q[line, inside], k[line, inside], queries),
        np.asarray(row.visual[line, inside]),
        keep[n - 1],
      )
      np.testing.assert_array_equal(np.flatnonzero(kept[line, inside]), expected)
  assert not np.asarray(kept)[np.asarray(row.segment_ids) == 0].any()


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.5, 0.1])
def test_uniform_keeps_the_places_of_torchs_linspace(ratio):
  torch = pytest.importorskip("torch")
  row = places((((3, 55, 2), ()), ((0, 63, 1), ()), ((4, 1, 2), ()), ((2, 0, 1), ())), length=140)
  counts = [55, 63, 1, 0]
  keep = np.asarray([int(n * ratio) for n in counts])
  kept = jax.jit(visual_dropout.keep_uniform)(row, jnp.asarray([keep, keep]))
  for n, count in enumerate(counts):
    inside = members(row, n + 1)
    visual = np.asarray(row.visual[0, inside])
    picked = torch.linspace(0, count - 1, int(keep[n]), dtype=torch.long).numpy()
    picks = np.flatnonzero(visual)[picked]
    expected = np.sort(np.concatenate([np.flatnonzero(~visual), picks]))
    np.testing.assert_array_equal(np.flatnonzero(kept[0, inside]), expected)


def test_ties_go_to_the_lower_place_and_counts_above_all_keep_all():
  row = places()
  kept = visual_dropout.keep_attended(
    row, jnp.ones(row.segment_ids.shape), jnp.asarray([[4, 99], [0, 3]])
  )
  visual = np.asarray(row.visual & kept)
  np.testing.assert_array_equal(np.flatnonzero(visual[0]), [3, 4, 5, 6, *range(18, 32)])
  np.testing.assert_array_equal(np.flatnonzero(visual[1]), [18, 19, 20])


@pytest.mark.parametrize("positions", ["renumber", "keep"])
def test_shortened_rows(positions):
  row = places()
  x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 56, 3)), jnp.float32)
  kept = visual_dropout.keep_attended(row, x[..., 0], jnp.asarray([[4, 7, 0], [1, 14, 0]]))
  short, index = jax.jit(visual_dropout.shorten, static_argnums=(2, 3))(row, kept, 42, positions)
  y = visual_dropout.move(x, index)
  assert y.shape == (2, 42, 3)
  for line in range(2):
    index = np.flatnonzero(kept[line])
    size = len(index)
    np.testing.assert_array_equal(y[line, :size], x[line, index])
    np.testing.assert_array_equal(y[line, size:], 0)
    for name in ("segment_ids", "visual", "tokens", "labels"):
      before, after = getattr(row, name)[line, index], getattr(short, name)[line, :size]
      np.testing.assert_array_equal(after, before)
    assert not np.asarray(short.segment_ids[line, size:]).any()
    for n in (1, 2, 3):
      inside = members(short, n, line)
      count = np.arange(len(inside))
      old = np.asarray(row.positions[line, index])[inside]
      np.testing.assert_array_equal(
        short.positions[line, inside], count if positions == "renumber" else old
      )
    asked = np.asarray(row.queries[line])
    moved = [list(index).index(i) if i >= 0 else -1 for i in asked]
    np.testing.assert_array_equal(short.queries[line], moved)


def test_rows_in_another_order_are_moved_alike():
  row = places()
  x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 56, 3)), jnp.float32)
  index = visual_dropout.compact(
    visual_dropout.keep_attended(row, x[..., 0], jnp.asarray([[4, 7, 0], [1, 14, 0]])), 40
  )
  before, after = zigzag.order(56, 4), zigzag.order(40, 4)
  laid = visual_dropout.move(x[:, before], index, before, after)
  np.testing.assert_array_equal(laid, visual_dropout.move(x, index)[:, after])


def test_a_mesh_drops_the_same_places():
  row = places(rows=4)
  q, k = random_qk(row)
  x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 56, 3)), jnp.float32)
  keep = jnp.asarray([[4, 7, 0]] * 4)

  def two_drops(x, row, q, k):
    short, index = visual_dropout.shorten(row, visual_dropout.keep_uniform(row, keep + 3), 48)
    x, q, k = (visual_dropout.move(a, index) for a in (x, q, k))
    scores = visual_dropout.attention_scores(
      visual_dropout.move(q, short.queries),
      k,
      visual_dropout.query_places(short),
      visual_dropout.row_places(short),
    )
    short, index = visual_dropout.shorten(
      short, visual_dropout.keep_attended(short, scores, keep), 40
    )
    return visual_dropout.move(x, index), short, scores

  whole = jax.jit(two_drops)(x, row, q, k)
  layout = mesh.make_mesh(dict(data=1, fsdp=2, seq=4, tensor=1))
  with jax.set_mesh(layout):
    spread = jax.NamedSharding(layout, jax.P(("data", "fsdp"), "seq"))

    def split(a):
      return jax.device_put(a, spread if a.shape[1] == 56 else None)

    parts = jax.jit(two_drops)(*jax.tree.map(split, (x, row, q, k)))
  for a, b in zip(*map(jax.tree.leaves, (parts, whole)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_dropped_query_moves_to_the_place_before_its_run():
  row = places((((2, 6, 3), (0,)),), length=12, rows=1)  # The last visual token asks.
  kept = visual_dropout.keep_attended(row, -jnp.arange(12.0)[None], jnp.asarray([[2]]))
  short, _ = visual_dropout.shorten(row, kept, 8)
  np.testing.assert_array_equal(short.queries[0, 0], 3)  # Two texts, two visual tokens.


def test_labels_are_rebuilt_in_the_shortened_row():
  full = places()
  targets, mask = visual_dropout.next_tokens(full)
  batch = dict(
    segment_ids=full.segment_ids,
    positions=full.positions,
    queries=full.queries,
    tokens=full.tokens,
    loss_mask=mask,
    visual_index=jnp.where(full.visual, 0, -1),
  )
  row = visual_dropout.row_of_batch(batch)
  np.testing.assert_array_equal(
    visual_dropout.next_tokens(row)[1], mask
  )  # What a batch says comes back.
  kept = visual_dropout.keep_attended(row, jnp.zeros((2, 56)), jnp.asarray([[2, 3, 0]] * 2))
  short, _ = jax.jit(visual_dropout.shorten, static_argnums=2)(row, kept, 30)
  targets, mask = map(np.asarray, visual_dropout.next_tokens(short))
  for n in (1, 2, 3):
    index = members(row, n)[np.asarray(kept[0, members(row, n)])]
    inside = members(short, n)
    np.testing.assert_array_equal(targets[0, inside[:-1]], row.tokens[0, index[1:]])
    np.testing.assert_array_equal(mask[0, inside[:-1]], row.labels[0, index[1:]])
    assert mask[0, inside[-1]] == 0
  assert mask[:, 27:].sum() == 0


# A decoder with two drops: packed and batched rows against each sample alone, through gradients.
MODEL = qwen2.Model(width=16, depth=3, heads=4, kv_heads=2, head_dim=8, mlp=24, vocab=97, theta=1e4)
STAGES = dropout_stages.parse_stages(((1, "uniform", 0.75), (2, "attention", 0.25)), MODEL.depth)


def asking(params, x, row, layer):
  """q of the query places and k of all places, as `layer` would compute them."""
  p = jax.lax.stop_gradient(jax.tree.map(lambda a: a[layer], params["layers"]))
  h = RMSNorm().apply({"params": p["input_layernorm"]}, jax.lax.stop_gradient(x))

  def project(h, positions, name):
    return rope.rotate(
      jnp.einsum("BLD,DHd->BLHd", h, p["self_attn"][name]["kernel"]) + p["self_attn"][name]["bias"],
      *rope.angles(positions, *rope.frequencies(8, 1e4)),
    )

  at = visual_dropout.move(row.positions, row.queries)
  q = project(visual_dropout.move(h, row.queries), at, "q_proj")
  return q, project(h, row.positions, "k_proj")


def decoder(params, x, row, keep, room, positions):
  """The layers of MODEL with a drop after each stage."""

  def run(x, row, start, stop):
    return MODEL.apply(
      {"params": params}, x, row.positions, row.segment_ids, start=start, stop=stop, method="blocks"
    )[0]

  start = 0
  for n, stage in enumerate(STAGES):
    x = run(x, row, start, stage.layer)
    if stage.kind == "uniform":
      kept = visual_dropout.keep_uniform(row, keep[:, n])
    else:
      q, k = asking(params, x, row, stage.layer)
      kept = visual_dropout.keep_attended(
        row,
        visual_dropout.attention_scores(
          q, k, visual_dropout.query_places(row), visual_dropout.row_places(row)
        ),
        keep[:, n],
      )
    row, index = visual_dropout.shorten(row, kept, room[n], positions)
    x = visual_dropout.move(x, index)
    start = stage.layer
  return run(x, row, start, MODEL.depth), row


def unpacked(row, x):
  """Every sample of one packed row in a row of its own."""
  arrays, length = jax.tree.map(np.asarray, (x, row)), x.shape[1]
  out = []
  for n in range(1, len(SAMPLES) + 1):
    inside = members(row, n)
    order = np.concatenate([inside, np.zeros(length - len(inside), int)])
    own, single = jax.tree.map(lambda a, i=order: a[0, np.minimum(i, a.shape[1] - 1)], arrays)
    asked = [i - inside[0] if i in inside else -1 for i in arrays[1].queries[0]]
    real = (np.arange(length) < len(inside)).astype(np.int32)
    out.append(
      (
        own,
        single.replace(
          segment_ids=real, visual=single.visual & (real > 0), queries=np.int32(asked)
        ),
      )
    )
  return jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *out)


@pytest.mark.parametrize("positions", ["renumber", "keep"])
def test_packed_rows_equal_single_samples(positions):
  rng = np.random.default_rng(3)
  params = jax.eval_shape(
    MODEL.init, jax.random.key(0), jnp.zeros((1, 2, 16)), jnp.zeros((1, 2), jnp.int32)
  )["params"]
  params = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.3, a.shape), jnp.float32), params)
  row = places(rows=3)  # Two rows weigh nothing: both runs are one program.
  x = jnp.asarray(rng.normal(size=(3, 56, 16)), jnp.float32)
  counts = dropout_stages.kept([9, 14, 0], STAGES)
  room = tuple(int(c) + 22 + extra for c, extra in zip(counts.sum(1), (3, 1), strict=True))

  def total(params, x, row, keep, weight):
    y, short = decoder(params, x, row, keep, room, positions)
    real = (short.segment_ids > 0) * weight[:, None]
    return jnp.square(y * real[..., None]).sum(), (y, short)

  step = jax.jit(
    jax.value_and_grad(total, (0, 1), has_aux=True)
    if positions == "renumber"
    else lambda *args: (total(*args), (params, x * 0))
  )
  (loss, (y, short)), slopes = step(
    params, x, row, jnp.asarray(np.stack([counts] * 3)), jnp.asarray([1.0, 0, 0])
  )
  own = jnp.asarray(counts.T[:, :, None])
  (loss_one, (y_one, short_one)), slopes_one = step(params, *unpacked(row, x), own, jnp.ones(3))
  np.testing.assert_allclose(loss, loss_one, rtol=1e-5)
  for n, ((head, _, tail), _) in enumerate(SAMPLES):
    inside = members(short, n + 1)
    size = len(inside)
    assert size == head + tail + counts[-1, n]
    np.testing.assert_allclose(y[0, inside], y_one[n, :size], atol=1e-5)
    for name in ("tokens", "labels", "positions"):
      np.testing.assert_array_equal(
        getattr(short, name)[0, inside], getattr(short_one, name)[n, :size]
      )
    before = members(row, n + 1)
    np.testing.assert_allclose(
      slopes[1][0, before], slopes_one[1][n, : len(before)], rtol=1e-3, atol=1e-4
    )
  for ours, theirs in zip(*map(jax.tree.leaves, (slopes[0], slopes_one[0])), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_unknown_positions_name_the_knob():
  row = places()
  with pytest.raises(ValueError, match=r"config\.model\.llm\.dropout_positions='none'"):
    visual_dropout.shorten(row, row.visual, 8, "none")
