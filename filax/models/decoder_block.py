# SPDX-License-Identifier: Apache-2.0
"""The decoder block of Llama, Qwen2 and Qwen3: pre-norm attention and a SwiGLU MLP.

Parameter names are those of the HF checkpoints.
"""

from typing import Any

from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from filax.models.layers import Dense, RMSNorm, float_types
from filax.ops import rope
from filax.ops.attention import dense, sequence_parallel
from filax.ops.attention.cached import cached
from filax.parallel.rules import constrain


class CausalAttention(nn.Module):
  """Causal attention with grouped heads.

  x [B L D] -> [B L D]. H query heads share K key/value heads of size d. A subclass sets `bias` and
  `normalised`.
  """

  bias = False  # Whether queries, keys and values have biases. No field: configs do not set it.

  heads: int
  kv_heads: int
  head_dim: int
  attend: tuple[str, str, int]  # Kernel, strategy over the mesh axis seq, degree of ulysses.
  eps: float = 1e-6  # For norms on queries and keys.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    cache,
    rotation,
    q_at,
    slots,
    samples: int,
    probe: str = "",
  ):
    """The output and the cache.

    `rotation` = (cos, sin), `q_at` = (segment, place) of the queries. `cache`, a LayerCache or
    None, is written from slot `slots` [B] on. `samples`: as in Decoder.blocks. With `probe`, the
    dimension word of the places, the result is (queries, keys) instead.
    """
    types = float_types(self)
    seq = probe or "seq"
    q = Dense((self.heads, self.head_dim), use_bias=self.bias, name="q_proj", **types)(x)
    k = Dense((self.kv_heads, self.head_dim), use_bias=self.bias, name="k_proj", **types)(x)
    v = Dense((self.kv_heads, self.head_dim), use_bias=self.bias, name="v_proj", **types)(x)
    q, k = self.normalised(q, k)
    q = constrain(q, f"batch {seq} heads -")
    q = rope.rotate(q, *rotation)
    k = constrain(k, f"batch {seq} kv_heads -")
    k = rope.rotate(k, *rotation)
    if probe:
      return q, k
    q = checkpoint_name(q, "query")
    k = checkpoint_name(k, "key")
    v = checkpoint_name(v, "value")
    if cache is not None:
      cache = cache.write(k, v, slots)
    if cache is None or samples == 1:
      attend = sequence_parallel.attend(*self.attend, samples=samples)
      o = attend(q, k.astype(q.dtype), v.astype(q.dtype), q_at, q_at)
    else:
      attend = dense.attention_kernel(self.attend[0])
      o = cached(attend, q, cache.keys(), cache.values(), q_at)
    o = constrain(o, "batch seq heads -")
    out = Dense(x.shape[-1], axis=(-2, -1), use_bias=False, name="o_proj", **types)
    return out(o), cache

  def normalised(
    self, q: Float[Array, "B L H d"], k: Float[Array, "B L K d"]
  ) -> tuple[Float[Array, "B L H d"], Float[Array, "B L K d"]]:
    """Queries and keys before the rotation; here they stay as they are."""
    return q, k


class SwiGLU(nn.Module):
  """The SwiGLU MLP.

  x [B L D] -> [B L D] through F hidden units.
  """

  mlp: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    options = dict(use_bias=False, **float_types(self))
    gate = Dense(self.mlp, name="gate_proj", **options)(x)
    gate = checkpoint_name(gate, "gate")
    up = Dense(self.mlp, name="up_proj", **options)(x)
    up = checkpoint_name(up, "up")
    h = constrain(nn.silu(gate) * up, "batch seq mlp")
    return Dense(x.shape[-1], name="down_proj", **options)(h)


class DecoderBlock(nn.Module):
  """One decoder layer: (x, cache) -> (x, cache).

  With `probe`, returns the queries and keys of x. A subclass sets its `attention`.
  """

  attention = CausalAttention

  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  eps: float
  attend: tuple[str, str, int]
  dtype: Any
  param_dtype: Any

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    cache,
    rotation,
    q_at,
    slots,
    samples: int,
    probe: str = "",
  ):
    types = float_types(self)
    h = RMSNorm(self.eps, name="input_layernorm", **types)(x)
    heads = (self.heads, self.kv_heads, self.head_dim)
    attention = self.attention(*heads, self.attend, self.eps, name="self_attn", **types)
    if probe:
      return attention(h, cache, rotation, q_at, slots, samples, probe)
    h, cache = attention(h, cache, rotation, q_at, slots, samples)
    x = checkpoint_name(x + h, "middle")
    h = RMSNorm(self.eps, name="post_attention_layernorm", **types)(x)
    x = x + SwiGLU(self.mlp, name="mlp", **types)(h)
    return constrain(x, "batch seq -"), cache


DIMS = (  # Path of a parameter -> its dimensions, in the words of filax.parallel.rules.
  (r"embed_tokens/embedding$", "vocab_rows -"),
  (r"lm_head/kernel$", "embed vocab"),
  (r"q_proj/kernel$", "embed heads head_dim"),
  (r"[kv]_proj/kernel$", "embed kv_heads head_dim"),
  (r"o_proj/kernel$", "heads head_dim embed"),
  (r"(gate|up)_proj/kernel$", "embed mlp"),
  (r"down_proj/kernel$", "mlp embed"),
  (r"norm/scale$", "-"),
)

# Names in PyTorch checkpoints: the decoder, with the head beside it.
# Rows of (path of a parameter, name of its tensor with * for the layer, layout of both).
TABLE = (
  (r"embed_tokens/embedding", r"embed_tokens.weight", "V D -> V D"),
  (r"lm_head/kernel", r"lm_head.weight", "D V -> V D"),
  (r"norm/scale", r"norm.weight", "D -> D"),
  (r"layers/(\w+_layernorm)/scale", r"layers.*.\1.weight", "D -> D"),
  (r"layers/self_attn/([qkv]_proj)/kernel", r"layers.*.self_attn.\1.weight", "D H d -> (H d) D"),
  (r"layers/self_attn/o_proj/kernel", r"layers.*.self_attn.o_proj.weight", "H d D -> D (H d)"),
  (r"layers/mlp/(\w+_proj)/kernel", r"layers.*.mlp.\1.weight", "i o -> o i"),
)

SPARE = (  # Tensors of some files that are computed here.
  (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "rotary frequencies are computed"),
)
