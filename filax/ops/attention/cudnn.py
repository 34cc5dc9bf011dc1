# SPDX-License-Identifier: Apache-2.0
"""cuDNN's fused attention for whole rows in the order of places, without a mask of scores.

Half precision on a GPU. Queries and keys are those of the same rows. Padding, segment 0, ends a
row: its outputs and gradients are zero.
"""

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from filax.ops.attention.blockwise import SAVED
from filax.ops.attention.tiles import At, KeysAt

_BLOCK = 128


def causal(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B L K d"],
  v: Float[Array, "B L K d"],
  q_at: At,
  kv_at: KeysAt,
) -> Float[Array, "B L H d"]:
  """Attention of rows that hold one sample each."""
  length = q.shape[1]
  q, k, v = _whole_blocks(q, k, v)
  (segment,) = _whole_blocks(q_at[0])
  real = segment != 0
  lengths = real.sum(1, dtype=jnp.int32)
  q, k, v = _zero_padding(real, q, k, v)
  out = jax.nn.dot_product_attention(
    q,
    k,
    v,
    is_causal=True,
    query_seq_lengths=lengths,
    key_value_seq_lengths=lengths,
    implementation="cudnn",
  )
  (out,) = _zero_padding(real, out)
  return checkpoint_name(out[:, :length], SAVED)


def packed(
  q: Float[Array, "B L H d"],
  k: Float[Array, "B L K d"],
  v: Float[Array, "B L K d"],
  q_at: At,
  kv_at: KeysAt,
  samples: int,
) -> Float[Array, "B L H d"]:
  """Attention of rows of up to `samples` samples, one after another.

  jax offers cuDNN's packed layout only under a private name. It needs a Hopper GPU. Every query
  head gets its own keys and values, because jax counts offsets of keys in query heads.
  """
  from jax._src.cudnn import fused_attention_stablehlo as fused

  length = q.shape[1]
  copies = q.shape[2] // k.shape[2]
  k = jnp.repeat(k, copies, axis=2)
  v = jnp.repeat(v, copies, axis=2)
  q, k, v = _whole_blocks(q, k, v)
  (segment,) = _whole_blocks(q_at[0])
  real = segment != 0
  q, k, v = _zero_padding(real, q, k, v)
  lengths, offsets = sample_bounds(segment, samples)
  out = fused.dot_product_attention(
    q,
    k,
    v,
    q_seqlen=lengths,
    kv_seqlen=lengths,
    q_offsets=offsets,
    kv_offsets=offsets,
    scale=q.shape[-1] ** -0.5,
    mask_type=fused.MaskType.PADDING_CAUSAL,
  )
  (out,) = _zero_padding(real, out)
  return checkpoint_name(out[:, :length], SAVED)


def sample_bounds(
  segment: Int[Array, "B L"], samples: int
) -> tuple[Int[Array, "B N"], Int[Array, "B N+1"]]:
  """Lengths and first places of the samples of packed rows.

  They are [B samples] and [B samples+1]. -1 stands for a sample that a row lacks, and ends the
  first places.
  """
  length = segment.shape[1]
  before = jnp.pad(segment, ((0, 0), (1, 0)))[:, :-1]
  starts = (segment != before) & (segment != 0)
  place = jnp.arange(length, dtype=jnp.int32)
  first = jnp.sort(jnp.where(starts, place, length), axis=1)
  first = first[:, :samples]
  first = jnp.pad(first, ((0, 0), (0, samples - first.shape[1])), constant_values=length)
  end = (segment != 0).sum(1, dtype=jnp.int32)[:, None]
  after = jnp.minimum(jnp.concatenate([first[:, 1:], end], axis=1), end)
  exists = first < length
  lengths = jnp.where(exists, after - first, -1)
  first = jnp.where(exists, first, -1)
  return lengths, jnp.pad(first, ((0, 0), (0, 1)), constant_values=-1)


def _whole_blocks(*arrays):
  """Pads [B L ...] to a multiple of _BLOCK places.

  jax refuses some lengths that are not multiples.
  """
  padded = []
  for x in arrays:
    after = -x.shape[1] % _BLOCK
    padded.append(jnp.pad(x, ((0, 0), (0, after), *((0, 0),) * (x.ndim - 2))))
  return tuple(padded)


def _zero_padding(real, *arrays):
  """Sets padding of [B L H d], and its gradients, to zero.

  cuDNN leaves what lies behind the lengths undefined.
  """
  return tuple(jnp.where(real[:, :, None, None], x, 0) for x in arrays)
