# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5 decoders (arXiv:2407.10671).

Parameter names are those of the HF checkpoint.
"""

from typing import Any

from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from filax.models.decoder import Decoder
from filax.models.layers import Dense, RMSNorm, float_types
from filax.ops import rope
from filax.ops.attention import dense, sequence_parallel
from filax.ops.attention.cached import cached
from filax.parallel.rules import constrain


class Qwen2Attention(nn.Module):
  """Causal attention with grouped heads.

  x [B L D] -> [B L D]. H query heads share K key/value heads of size d.
  """

  heads: int
  kv_heads: int
  head_dim: int
  attend: tuple[str, str, int]  # Kernel, strategy over the mesh axis seq, degree of ulysses.
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
    probe: str = "",
  ):
    """The output and the cache.

    `rotation` = (cos, sin), `q_at` = (segment, place) of the queries. `cache`, a LayerCache or
    None, is written from slot `slots` [B] on. With `probe`, the dimension word of the places, the
    result is (queries, keys) instead.
    """
    types = float_types(self)
    seq = probe or "seq"
    q = Dense((self.heads, self.head_dim), name="q_proj", **types)(x)
    k = Dense((self.kv_heads, self.head_dim), name="k_proj", **types)(x)
    v = Dense((self.kv_heads, self.head_dim), name="v_proj", **types)(x)
    q = constrain(q, f"batch {seq} heads -")
    q = rope.rotate(q, *rotation)
    k = constrain(k, f"batch {seq} kv_heads -")
    k = rope.rotate(k, *rotation)
    if probe:
      return q, k
    if cache is None:
      attend = sequence_parallel.attend(*self.attend)
      o = attend(q, k.astype(q.dtype), v.astype(q.dtype), q_at, q_at)
    else:
      attend = dense.attention_kernel(self.attend[0])
      cache = cache.write(k, v, slots)
      o = cached(attend, q, cache.keys(), cache.values(), q_at)
    o = constrain(o, "batch seq heads -")
    out = Dense(x.shape[-1], axis=(-2, -1), use_bias=False, name="o_proj", **types)
    return out(o), cache


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


class Qwen2Block(nn.Module):
  """One decoder layer: (x, cache) -> (x, cache).

  With `probe`, returns the queries and keys of x.
  """

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
    probe: str = "",
  ):
    types = float_types(self)
    h = RMSNorm(self.eps, name="input_layernorm", **types)(x)
    heads = (self.heads, self.kv_heads, self.head_dim)
    attention = Qwen2Attention(*heads, self.attend, name="self_attn", **types)
    if probe:
      return attention(h, cache, rotation, q_at, slots, probe)
    h, cache = attention(h, cache, rotation, q_at, slots)
    x = x + h
    h = RMSNorm(self.eps, name="post_attention_layernorm", **types)(x)
    x = x + SwiGLU(self.mlp, name="mlp", **types)(h)
    return constrain(x, "batch seq -"), cache


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


class Qwen2(Decoder):
  """Qwen2 and Qwen2.5: Decoder with biases on queries, keys and values."""

  block = Qwen2Block
  dims = DIMS


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

SPARE = (  # Tensors of some files that are computed here.
  (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "rotary frequencies are computed"),
)

EXTRA = ()  # Tensors for other software that are no parameters: (name, axis, value).

Model = Qwen2
