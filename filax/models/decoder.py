# SPDX-License-Identifier: Apache-2.0
"""The base class of language models: embeddings, blocks, cache and output projection.

A subclass sets `block`, the module of a layer, and `dims`, the rows of DIMS of its parameters:

  class Qwen2(Decoder):
    block = Qwen2Block
    dims = DIMS
"""

from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from filax.models import visual_dropout
from filax.models.layer_cache import Cache, device_slots
from filax.models.layers import Embed, Head, RMSNorm, float_types
from filax.models.roles import LLM
from filax.models.stack import Stack
from filax.ops import rope
from filax.ops.attention.choice import UNKNOWN
from filax.parallel.rules import constrain
from filax.spec import dropout_stages

ROWS = 512  # The vocabulary is padded to a multiple of this, so that every mesh divides it.


class _DecoderParts:
  """Class attributes of a decoder.

  They are not dataclass fields, so a config cannot set them.
  """

  block: type[nn.Module]  # (x, cache, rotation, q_at, slots, samples[, probe])
  dims: Sequence[tuple[str, str]]  # The rows of DIMS of its parameters.


class Decoder(nn.Module, _DecoderParts, LLM):
  """A decoder from embeddings to hidden states.

  The output projection is separate: callers use `head` or `logits`. yarn: extends the context
  beyond the trained length. dropout: the stages at which visual tokens are dropped
  (filax.spec.dropout_stages). dropout_queries: the queries in training; in inference, the last
  token of the prompt is the query.
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
  sequence: str = "gather"  # A strategy of ops.attention, used when config.mesh.seq > 1.
  ulysses: int = 0  # Devices that share heads under sequence="ulysses_ring".
  remat: str = "none"
  dropout: str | Sequence = "off"  # A preset of dropout_stages, or ((layer, kind, ratio), ...).
  dropout_positions: str = "renumber"  # renumber (released) | keep
  dropout_queries: str = "released"  # released | answers
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @property
  def stages(self) -> dropout_stages.Stages:
    """The stages of visual dropout.

    Raises ValueError for an invalid stage.
    """
    return dropout_stages.parse_stages(self.dropout, self.depth)

  @property
  def vocab_rows(self) -> int:
    """The number of rows of the embedding table, padding included.

    The logits of rows from `vocab` on are meaningless.
    """
    return math.ceil(self.vocab / ROWS) * ROWS

  def setup(self):
    types = float_types(self)
    self.embed_tokens = Embed(self.vocab_rows, self.width, **types)
    options = dict(
      heads=self.heads,
      kv_heads=self.kv_heads,
      head_dim=self.head_dim,
      mlp=self.mlp,
      eps=self.eps,
      attend=(self.attention, self.sequence, self.ulysses),
      **types,
    )
    self.stack = Stack(self.block, self.depth, options, self.remat, self.dims)
    nn.share_scope(self, self.stack)  # Parameters are llm/layers/..., not llm/stack/layers/...
    self.norm = RMSNorm(self.eps, **types)
    if not self.tied:
      self.lm_head = Head(self.vocab_rows, **types)

  def __call__(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"] | None = None,
    cache: Cache | visual_dropout.RangeCaches | None = None,
    lengths: Int[Array, "B"] | None = None,
    place: Int[Array, "B L"] | None = None,
    samples: int = UNKNOWN,
  ) -> tuple[Float[Array, "B L D"], Cache | visual_dropout.RangeCaches | None]:
    """All layers and the final norm, with an optional cache.

    Returns the normalised hidden states, and the cache with the keys and values of the new tokens.
    Without a cache, a token attends to its own segment; with a cache, to all cached tokens of its
    row. No token is dropped here; with `RangeCaches`, each range of layers uses its own cache.

    lengths: the number of real tokens of each row, if `x` is padded on the right (default: all).
    place: the index of each token in its row, for rows that are not in natural order. samples: as
    in `blocks`.
    """
    if isinstance(cache, visual_dropout.RangeCaches):
      return visual_dropout.extend(self, x, positions, cache, lengths)
    x, cache = self.blocks(x, positions, segment_ids, cache, lengths, place, samples=samples)
    if self.is_initializing():  # Create the embedding and output tables, too.
      self.embed(positions)
      self.head()
    return self.normalise(x), cache

  def blocks(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"] | None = None,
    cache: Cache | None = None,
    lengths: Int[Array, "B"] | None = None,
    place: Int[Array, "B L"] | None = None,
    start: int = 0,
    stop: int | None = None,
    samples: int = UNKNOWN,
  ) -> tuple[Float[Array, "B L D"], Cache | None]:
    """The layers from `start` to `stop` - 1, without the final norm.

    cache: the cache of these layers.
    samples: the most segments of a row; the fastest kernels need to know it. It may only be given
      if the segments follow one another and padding ends the row. With a cache, samples = 1 states
      that the cache is empty, so that the tokens attend only to each other.
    """
    batch, length, _ = x.shape
    first_slot = jnp.zeros((batch,), jnp.int32) if cache is None else cache.length
    if place is None:
      place = first_slot[:, None] + jnp.arange(length)
    if segment_ids is None or cache is not None:
      segment_ids = jnp.ones_like(place)
      samples = 1 if cache is None else samples
    rotation = self._rotation(positions)
    q_at = (segment_ids, place)
    keys_values = None if cache is None else (cache.k, cache.v)
    x, keys_values = self.stack(
      x.astype(self.dtype), keys_values, rotation, q_at, first_slot, samples, start=start, stop=stop
    )
    if cache is not None:
      added = length if lengths is None else lengths
      k, v = keys_values
      cache = Cache(k, v, cache.length + added)
    return x, cache

  def normalise(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
    """The norm after the last layer."""
    return self.norm(x)

  def query_key(
    self,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    layer: int,
    words: str,
  ) -> tuple[Float[Array, "B L H d"], Float[Array, "B L K d"]]:
    """The queries and keys that `layer` computes from x.

    words: the dimension word of L.
    """
    x = x.astype(self.dtype)
    rotation = self._rotation(positions)
    return self.stack.call_layer(layer, x, None, rotation, None, None, UNKNOWN, probe=words)

  def _rotation(self, positions):
    """(cos, sin) of the rotary embedding."""
    inverse, factor = self.frequencies()
    return rope.angles(positions, inverse, factor)

  def frequencies(self) -> tuple[np.ndarray, float]:
    """Inverse rotary frequencies f32 [d/2], and the factor on cos and sin."""
    return rope.frequencies(self.head_dim, self.theta, self.yarn)

  def embed(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    return constrain(self.embed_tokens(tokens), "batch seq -")

  def head(self) -> Float[Array, "D V"]:
    """The output projection; columns from `vocab` on are padding."""
    if self.tied:
      return self.embed_tokens.output_kernel()
    return self.lm_head(self.width)

  def table_logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L rows"]:
    """float32 logits of all rows of the output table.

    Those from `vocab` on are meaningless. The product uses the table as it is stored, because a
    transposed or shortened table would be a copy.
    """
    if self.tied:
      return self.embed_tokens.row_products(hidden)
    return jnp.einsum("BLD,DV->BLV", hidden, self.head(), preferred_element_type=jnp.float32)

  def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    """float32 logits of the real vocabulary."""
    logits = lax.optimization_barrier(self.table_logits(hidden))
    return logits[..., : self.vocab]  # Without the barrier, XLA would shorten the table instead.

  def empty_cache(
    self,
    batch: int,
    slots: int,
    layers: int | None = None,
  ) -> Cache:
    """A cache of at least `slots` places for `layers` layers (default: all).

    The layers are stacked in one array, or are separate arrays, as in the parameters
    (filax.models.stack.Stack). Outside of `apply`, they are stacked.
    """
    layers = layers or self.depth
    slots = device_slots(slots)
    length = jnp.zeros((batch,), jnp.int32)
    if self.scope is None or not self.stack.apart:
      stacked = jnp.zeros((layers, batch, self.kv_heads, slots, self.head_dim), self.dtype)
      return Cache(stacked, stacked, length)
    of_layer = jnp.zeros((batch * self.kv_heads, slots, self.head_dim), self.dtype)
    apart = (of_layer,) * layers
    return Cache(apart, apart, length)
