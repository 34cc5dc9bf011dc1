# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5 decoders (arXiv:2407.10671). Parameter names are those of the HF checkpoint."""

from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
from flax import struct
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from filax.models.layers import Dense, Embed, Head, RMSNorm, Stack
from filax.ops import rope, visual_dropout
from filax.ops.attention import dense as attention
from filax.ops.attention import sequence_parallel as sequence
from filax.parallel import zigzag
from filax.parallel.rules import constrain
from filax.spec import dropout_stages as dropout_lib

ROWS = 512  # Vocabulary rows are padded to a multiple, so that any mesh divides them.


@struct.dataclass
class Cache:
  """Keys and values of a range of layers. Slots from `length` on hold nothing yet."""

  k: Any  # [layers B S K d]
  v: Any
  length: Any  # int32 [B]


@struct.dataclass
class Caches:
  """A Cache of every range of layers between visual drops: later ranges hold fewer places."""

  ranges: tuple[Cache, ...]
  length: Any  # int32 [B]: the tokens read, dropped ones included.


class Attention(nn.Module):
  """Causal attention, x [B L D] -> [B L D]: H query heads share K key/value heads of size d."""

  heads: int
  kv_heads: int
  head_dim: int
  attend: tuple[str, str, int]  # Kernel, strategy over the mesh axis seq, degree of ulysses.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"], cache, turn, at, slots, probe: str = ""):
    """With `probe`, the queries and keys instead; it is the dimension word of their places."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    seq = probe or "seq"
    q = Dense((self.heads, self.head_dim), name="q_proj", **types)(x)
    k = Dense((self.kv_heads, self.head_dim), name="k_proj", **types)(x)
    v = Dense((self.kv_heads, self.head_dim), name="v_proj", **types)(x)
    q = rope.rotate(constrain(q, f"batch {seq} heads -"), *turn)
    k = rope.rotate(constrain(k, f"batch {seq} kv_heads -"), *turn)
    if probe:
      return q, k
    attend, kv_at = sequence.attend(*self.attend), at
    if cache is not None:
      attend = attention.kind(self.attend[0])
      k, v = (_write(old, new, slots) for old, new in zip(cache, (k, v), strict=True))
      cache = (k, v)
      place = jnp.broadcast_to(jnp.arange(k.shape[1]), k.shape[:2])
      kv_at = (jnp.ones_like(place), place)  # What is not written yet lies after every query.
    o = attend(q, k.astype(q.dtype), v.astype(q.dtype), at, kv_at)
    o = constrain(o, "batch seq heads -")
    o = Dense(x.shape[-1], axis=(-2, -1), use_bias=False, name="o_proj", **types)(o)
    return o, cache


class SwiGLU(nn.Module):
  """x [B L D] -> [B L D] through F hidden units."""

  mlp: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    options = dict(use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
    gate = checkpoint_name(Dense(self.mlp, name="gate_proj", **options)(x), "gate")
    up = checkpoint_name(Dense(self.mlp, name="up_proj", **options)(x), "up")
    h = constrain(nn.silu(gate) * up, "batch seq mlp")
    return Dense(x.shape[-1], name="down_proj", **options)(h)


class Block(nn.Module):
  """One decoder layer: (x, cache) -> (x, cache). With `probe`, x -> its queries and keys."""

  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  eps: float
  attend: tuple[str, str, int]
  dtype: Any
  param_dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"], cache, turn, at, slots, probe: str = ""):
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    h = RMSNorm(self.eps, name="input_layernorm", **types)(x)
    attend = Attention(
      self.heads, self.kv_heads, self.head_dim, self.attend, name="self_attn", **types
    )
    if probe:
      return attend(h, cache, turn, at, slots, probe)
    h, cache = attend(h, cache, turn, at, slots)
    x = x + h
    h = RMSNorm(self.eps, name="post_attention_layernorm", **types)(x)
    x = x + SwiGLU(self.mlp, name="mlp", **types)(h)
    return constrain(x, "batch seq -"), cache


class Qwen2(nn.Module):
  """Embeddings in, hidden states out; the vocabulary product is left to the caller (`head`).

  `yarn` = (factor, trained positions) reads beyond the trained length. `dropout` names stages at
  which visual tokens are dropped (filax.spec.dropout_stages); `dropout_queries` is for training
  alone, where a prompt's last token has no such place.
  """

  width: int
  depth: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  vocab: int
  tied: bool = False
  theta: float = 1e6
  eps: float = 1e-6
  positions: int = 32_768  # Trained context length.
  yarn: tuple | None = None  # (factor, trained positions[, ((key, value), ...)]): ops.rope.
  attention: str = "auto"  # A kernel of ops.attention.
  sequence: str = "gather"  # A strategy of ops.sequence, used when config.mesh.seq > 1.
  ulysses: int = 0  # Devices that share heads under sequence="ulysses_ring".
  remat: str = "none"
  dropout: str | Sequence = (
    "off"  # A preset of filax.spec.dropout_stages, or ((layer, kind, ratio), ...).
  )
  dropout_positions: str = "renumber"  # renumber (released) | keep
  dropout_queries: str = "released"  # released | answers
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @property
  def stages(self) -> dropout_lib.Stages:
    """Where visual tokens are dropped. Raises ValueError for what cannot be."""
    return dropout_lib.parse(self.dropout, self.depth)

  @property
  def ranges(self) -> tuple[tuple[int, int], ...]:
    """(start, stop) of the layers between drops."""
    cuts = [stage.layer for stage in self.stages]
    return tuple(zip((0, *cuts), (*cuts, self.depth), strict=True))

  @property
  def rows(self) -> int:
    """Rows of the embedding table; logits of rows beyond `vocab` mean nothing."""
    return -(-self.vocab // ROWS) * ROWS

  def setup(self):
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    self.embed_tokens = Embed(self.rows, self.width, **types)
    options = dict(
      heads=self.heads,
      kv_heads=self.kv_heads,
      head_dim=self.head_dim,
      mlp=self.mlp,
      eps=self.eps,
      attend=(self.attention, self.sequence, self.ulysses),
      **types,
    )
    self.stack = Stack(Block, self.depth, options, self.remat, DIMS)
    nn.share_scope(self, self.stack)  # Parameters are llm/layers/..., not llm/stack/layers/...
    self.norm = RMSNorm(self.eps, **types)
    if not self.tied:
      self.lm_head = Head(self.rows, **types)

  def __call__(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"] | None = None,
    cache: Cache | Caches | None = None,
    lengths: Int[Array, "B"] | None = None,
    place: Int[Array, "B L"] | None = None,
  ) -> tuple[Float[Array, "B L D"], Cache | Caches | None]:
    """Embedded tokens -> normalised hidden states and the cache with the new tokens written.

    Without a cache a query sees its own segment; with one, all that the row has cached. `lengths`
    [B] counts the real tokens of each row when `x` is padded on the right (default: all). `place`
    is the index of a token in its row, where the row is not laid out in natural order. Nothing is
    dropped here; with `Caches`, the ranges after a drop go on with what they hold.
    """
    if isinstance(cache, Caches):
      return self._further(x, positions, cache, lengths)
    x, cache = self.blocks(x, positions, segment_ids, cache, lengths, place)
    if self.is_initializing():  # Whoever calls the llm alone also gets both of its tables.
      self.embed(positions), self.head()
    return self.norm(x), cache

  def dropped(
    self,
    x: Float[Array, "R L D"],
    row: visual_dropout.Row,
    keep: Int[Array, "R stages S"],
    room: Sequence[int],
  ) -> tuple[Float[Array, "R n D"], visual_dropout.Row]:
    """Embedded rows -> normalised hidden states of the places that are left at the end, and what
    is known of those.

    After each stage the row has room[stage] places. Over the mesh axis seq, x and the result lie
    in zig-zag order; `row`, like the one returned, is in natural order.
    """
    for n, (start, stop) in enumerate(self.ranges):
      order = zigzag.in_use(x.shape[1])
      lie = lambda a, order=order: a if order is None else constrain(a[:, order], "batch seq")
      segments, place = map(lie, visual_dropout.at_places(row))
      x, _ = self.blocks(x, lie(row.positions), segments, place=place, start=start, stop=stop)
      if stop < self.depth:
        x, row = self.shorten(x, row, keep[:, n], n, room[n], order, zigzag.in_use(room[n]))
    return self.norm(x), row

  def read(
    self,
    x: Float[Array, "B L D"],
    lengths: Int[Array, "B"],
    visual: Bool[Array, "B L"],
    keep: Int[Array, "B stages 1"],
    room: Sequence[int],
    spare: int,
    chunk: int,
  ) -> tuple[Float[Array, "B D"], Cache | Caches]:
    """Embedded prompts, padded on the right -> normalised hidden states of their last tokens, and
    the cache, with `spare` free slots.

    All of a prompt passes a range of layers, `chunk` places at a time, before its last token says
    what is dropped; then room[stage] places go on.
    """
    batch, length, _ = x.shape
    place = jnp.broadcast_to(jnp.arange(length), (batch, length))
    real = (place < lengths[:, None]).astype(jnp.int32)
    row = visual_dropout.Row(real, place, visual & (real > 0), lengths[:, None] - 1)
    ranges = []
    for n, (start, stop) in enumerate(self.ranges):
      cache = self.empty_cache(batch, x.shape[1] + spare, stop - start)
      x, cache = self._in_chunks(x, row.positions, cache, start, stop, chunk)
      count = row.segment_ids.sum(1)
      ranges.append(cache.replace(length=count))
      if stop < self.depth:
        x, row = self.shorten(x, row, keep[:, n], n, room[n])
    last = jnp.take_along_axis(x, (count - 1)[:, None, None], axis=1)[:, 0]
    return self.norm(last), Caches(tuple(ranges), lengths) if self.stages else ranges[0]

  def _in_chunks(self, x, positions, cache, start: int, stop: int, chunk: int):
    """`blocks` into an empty cache, `chunk` places at a time (or as many as divide the prompt)."""
    size = math.gcd(x.shape[1], chunk)
    through = lambda llm, cache, part: llm.blocks(*part, None, cache, start=start, stop=stop)[::-1]
    if size == x.shape[1]:
      return through(self, cache, (x, positions))[::-1]
    cut = lambda a: jnp.moveaxis(a.reshape(len(a), -1, size, *a.shape[2:]), 1, 0)
    scan = nn.scan(through, variable_broadcast="params", split_rngs={"params": False})
    cache, parts = scan(self, cache, (cut(x), cut(positions)))
    return jnp.moveaxis(parts, 0, 1).reshape(x.shape), cache

  def shorten(
    self,
    x: Float[Array, "R L D"],
    row: visual_dropout.Row,
    keep,
    number: int,
    room: int,
    before=None,
    after=None,
  ):
    """Drops what stage `number` drops, -> x [R room D] and its row. `keep` [R S]; `before` and
    `after` are the orders of x, if not the natural one."""
    if self.stages[number].kind == "uniform":
      kept = visual_dropout.uniform(row, keep)
    else:
      kept = visual_dropout.select(
        row, self.scores(x, row, self.stages[number].layer, before), keep
      )
    row, index = visual_dropout.shorten(row, kept, room, self.dropout_positions)
    return constrain(visual_dropout.move(x, index, before, after), "batch seq -"), row

  def scores(
    self, x: Float[Array, "R L D"], row: visual_dropout.Row, layer: int, order=None
  ) -> Float[Array, "R L"]:
    """How much the queries of a row attend to its places in `layer`, in natural order; x lies in
    `order`. No gradient."""
    x = jax.lax.stop_gradient(x)
    asked = visual_dropout.move(row.positions, row.queries)
    q, _ = self._probe(visual_dropout.move(x, row.queries, order), asked, layer, "-")
    at, positions = visual_dropout.at_places(row), row.positions
    if order is not None:
      *at, positions = (a[:, order] for a in (*at, positions))
    _, k = self._probe(x, positions, layer, "seq")
    scores = constrain(
      visual_dropout.scores(q, k, visual_dropout.at_queries(row), tuple(at)), "batch -"
    )
    return scores if order is None else scores[:, jnp.argsort(jnp.asarray(order))]

  def attended(self, x: Float[Array, "B L D"]) -> Float[Array, "layers B L"]:
    """`scores` of every layer, asked by the last place; nothing is dropped."""
    batch, length, _ = x.shape
    place = jnp.broadcast_to(jnp.arange(length), (batch, length))
    row = visual_dropout.Row(
      jnp.ones_like(place), place, jnp.zeros((batch, length), bool), place[:, -1:]
    )
    found = []
    for n in range(self.depth):
      found.append(self.scores(x, row, n))
      x, _ = self.blocks(x, place, start=n, stop=n + 1)
    return jnp.stack(found)

  def _probe(self, x, positions, layer: int, seq: str):
    """Queries and keys of x as `layer` computes them."""
    return self.stack.at(
      layer, x.astype(self.dtype), None, self._turn(positions), None, None, probe=seq
    )

  def _turn(self, positions):
    return rope.angles(positions, *rope.frequencies(self.head_dim, self.theta, self.yarn))

  def _further(self, x, positions, cache: Caches, lengths):
    """More tokens after a prompt whose visual tokens were dropped on the way."""
    ranges = []
    for (start, stop), own in zip(self.ranges, cache.ranges, strict=True):
      at = positions
      if self.dropout_positions == "renumber":
        at = own.length[:, None] + jnp.arange(x.shape[1])
      x, own = self.blocks(x, at, None, own, lengths, start=start, stop=stop)
      ranges.append(own)
    read = x.shape[1] if lengths is None else lengths
    return self.norm(x), Caches(tuple(ranges), cache.length + read)

  def blocks(
    self, x, positions, segment_ids=None, cache=None, lengths=None, place=None, start=0, stop=None
  ):
    """Layers start..stop, before the final norm."""
    batch, length, _ = x.shape
    first = jnp.zeros((batch,), jnp.int32) if cache is None else cache.length
    if place is None:
      place = first[:, None] + jnp.arange(length)
    if segment_ids is None or cache is not None:
      segment_ids = jnp.ones_like(place)
    turn = self._turn(positions)
    kv = None if cache is None else (cache.k, cache.v)
    x, kv = self.stack(
      x.astype(self.dtype), kv, turn, (segment_ids, place), first, start=start, stop=stop
    )
    if cache is not None:
      lengths = length if lengths is None else lengths
      cache = Cache(*kv, cache.length + lengths)
    return x, cache

  def embed(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    return constrain(self.embed_tokens(tokens), "batch seq -")

  def head(self) -> Float[Array, "D V"]:
    """The output projection; columns from `vocab` on are padding."""
    return self.embed_tokens.head() if self.tied else self.lm_head(self.width)

  def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    """float32 logits of the real vocabulary."""
    # The padding leaves after the product: to cut it off the table would copy the table.
    logits = jnp.einsum("BLD,DV->BLV", hidden, self.head(), preferred_element_type=jnp.float32)
    return logits[..., : self.vocab]

  def empty_cache(self, batch: int, slots: int, layers: int | None = None) -> Cache:
    """A cache of `slots` places for `layers` (default: all) layers."""
    shape = (layers or self.depth, batch, slots, self.kv_heads, self.head_dim)
    zeros = jnp.zeros(shape, self.dtype)
    return Cache(zeros, zeros, jnp.zeros((batch,), jnp.int32))


def _write(old, new, slots):
  """Writes new [B L K d] into old [B S K d] from slot `slots` [B] on."""
  put = lambda a, b, i: jax.lax.dynamic_update_slice(a, b.astype(a.dtype), (i, 0, 0))
  return jax.vmap(put)(old, new, slots)


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  (r"embed_tokens/embedding$", "vocab_rows -"),
  (r"lm_head/kernel$", "embed vocab"),
  (r"q_proj/kernel$", "embed heads head_dim"),
  (r"[kv]_proj/kernel$", "embed kv_heads head_dim"),
  (r"q_proj/bias$", "heads head_dim"),
  (r"[kv]_proj/bias$", "kv_heads head_dim"),
  (r"o_proj/kernel$", "heads head_dim embed"),
  (r"(gate|up)_proj/kernel$", "embed mlp"),
  (r"down_proj/kernel$", "mlp embed"),
  (r"norm/scale$", "-"),
)

VARIANTS = {
  "tiny": dict(width=32, depth=3, heads=4, kv_heads=2, head_dim=8, mlp=64, vocab=512, tied=False),
  "toy": dict(
    width=96,
    depth=3,
    heads=4,
    kv_heads=2,
    head_dim=24,
    mlp=288,
    vocab=512,
    tied=True,
    theta=1e4,
    positions=1024,
  ),
  "0.5B": dict(
    width=896, depth=24, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=151_936, tied=True
  ),
  "1.5B": dict(
    width=1536, depth=28, heads=12, kv_heads=2, head_dim=128, mlp=8960, vocab=151_936, tied=True
  ),
  "3B": dict(
    width=2048, depth=36, heads=16, kv_heads=2, head_dim=128, mlp=11_008, vocab=151_936, tied=True
  ),
  "7B": dict(width=3584, depth=28, heads=28, kv_heads=4, head_dim=128, mlp=18_944, vocab=152_064),
}

# Names in PyTorch checkpoints: Qwen2Model, with the head beside it.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
TABLE = (
  (r"embed_tokens/embedding", r"embed_tokens.weight", "V D -> V D"),
  (r"lm_head/kernel", r"lm_head.weight", "D V -> V D"),
  (r"norm/scale", r"norm.weight", "D -> D"),
  (r"layers/(\w+_layernorm)/scale", r"layers.*.\1.weight", "D -> D"),
  (r"layers/self_attn/([qkv]_proj)/kernel", r"layers.*.self_attn.\1.weight", "D H d -> (H d) D"),
  (r"layers/self_attn/([qkv]_proj)/bias", r"layers.*.self_attn.\1.bias", "H d -> (H d)"),
  (r"layers/self_attn/o_proj/kernel", r"layers.*.self_attn.o_proj.weight", "H d D -> D (H d)"),
  (r"layers/mlp/(\w+_proj)/kernel", r"layers.*.mlp.\1.weight", "i o -> o i"),
)

SPARE = (  # Tensors that some files hold and that are computed here.
  (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "rotary frequencies are computed"),
)

EXTRA = ()  # Tensors that other software wants and that are no parameters: (name, axis, value).

Model = Qwen2
