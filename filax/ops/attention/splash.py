# SPDX-License-Identifier: Apache-2.0
"""Splash attention, jax's Pallas kernel for TPU, as an attention function.

The kernel needs a static causal mask, so places come from the layout instead of the arrays:
natural order without `seq`, the zig-zag order of parallel.zigzag with it. Segments stay dynamic.
"""

from collections.abc import Callable
import functools

import jax
from jax import lax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool
import numpy as np

from filax.ops.attention import tiles
from filax.ops.attention.blockwise import SAVED
from filax.parallel import zigzag
from filax.parallel.rules import ACTIVATION_AXES

AXIS = "seq"
STRATEGIES = ("gather", "ulysses")
_BLOCKS = (1024, 512, 256, 128)  # Larger is faster while it divides the row.


def attend(strategy: str, interpret: bool = False) -> Callable:
  """The splash attention function for the mesh in use.

  Returns attend(q, k, v, q_at, kv_at). `interpret` runs the kernel on any backend.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return functools.partial(_on_one_device, interpret=interpret)
  if mesh.shape[AXIS] > 1 and strategy not in STRATEGIES:
    raise ValueError(
      f"config.model.llm.attention='splash' has no sequence={strategy!r}. Set config.model.llm."
      f"sequence to one of {', '.join(STRATEGIES)}, or attention to blockwise."
    )
  body = _gathered if mesh.shape[AXIS] > 1 and strategy == "gather" else _traded
  return functools.partial(_on_every_device, body, mesh, interpret)


def suits(strategy: str, shape: tuple[int, ...], mesh) -> bool:
  """Whether splash supports a strategy and query shape on a mesh.

  `shape` is [B L H d].
  """
  _, length, heads, _ = shape
  shards = mesh.shape[AXIS]
  if shards > 1 and strategy not in STRATEGIES:
    return False
  if strategy == "ulysses" and heads // mesh.shape["tensor"] % shards:
    return False
  length_of_kernel = length if strategy == "ulysses" else length // shards
  return length % shards == 0 and length_of_kernel % 128 == 0


def _on_every_device(body, mesh, interpret, q, k, v, q_at, kv_at):
  """Runs `body` on every device.

  Each device gets its rows, places and heads, and its share of the mask.
  """
  shards = mesh.shape[AXIS]
  length = q.shape[1]
  heads = q.shape[2] // mesh.shape["tensor"]
  if body is _gathered:
    kernel = _kernel(length, heads, shards, shards, interpret)
    layout = kernel.manual_sharding_spec(NamedSharding(mesh, P(None, AXIS)))
  else:
    kernel = _kernel(length, heads // shards, 1, 1, interpret)
    layout = P()
  places = P(ACTIVATION_AXES["batch"], AXIS)
  by_head = P(*places, ACTIVATION_AXES["heads"])
  on_mesh = jax.shard_map(
    functools.partial(body, shards=shards),
    in_specs=(layout, by_head, by_head, by_head, places, places),
    out_specs=by_head,
    check_vma=False,
  )
  return on_mesh(kernel, q, k, v, q_at[0], kv_at[0])


def _on_one_device(q, k, v, q_at, kv_at, interpret):
  kernel = _kernel(q.shape[1], q.shape[2], 1, 1, interpret)
  return _attend_rows(kernel, q, k, v, q_at[0], kv_at[0])


def _gathered(kernel, q, k, v, q_segment, kv_segment, shards):
  """Attention of local queries to gathered keys.

  Queries are in zig-zag order, keys in natural order.
  """

  def gather(x):
    return zigzag.natural(lax.all_gather(x, AXIS, axis=1, tiled=True), shards)

  return _attend_rows(kernel, q, gather(k), gather(v), q_segment, gather(kv_segment))


def _traded(kernel, q, k, v, q_segment, kv_segment, shards):
  """Attention with whole rows and a share of heads per device."""
  if shards == 1:
    return _attend_rows(kernel, q, k, v, q_segment, kv_segment)
  if q.shape[2] % shards:
    raise ValueError(
      f"config.model.llm.sequence='ulysses' needs {q.shape[2]} query heads to divide by "
      f"config.mesh.seq={shards}. Set sequence to gather."
    )
  copies = np.lcm(k.shape[2], shards) // k.shape[2]
  k = jnp.repeat(k, copies, axis=2)
  v = jnp.repeat(v, copies, axis=2)
  trade = functools.partial(lax.all_to_all, axis_name=AXIS, tiled=True)

  def rows_of_some_heads(x):
    return zigzag.natural(trade(x, split_axis=2, concat_axis=1), shards)

  segment = zigzag.natural(lax.all_gather(q_segment, AXIS, axis=1, tiled=True), shards)
  q = rows_of_some_heads(q)
  k = rows_of_some_heads(k)
  v = rows_of_some_heads(v)
  out = _attend_rows(kernel, q, k, v, segment, segment)
  index = zigzag.order(out.shape[1], shards)
  return trade(out[:, index], split_axis=1, concat_axis=2)


def _attend_rows(kernel, q, k, v, q_segment, kv_segment):
  """Applies the kernel to every row.

  The kernel does not scale scores, and expects heads before places.
  """

  kernel = _without_strangers(kernel, q_segment, kv_segment)

  def attend_row(q, k, v, q_segment, kv_segment):
    segment_ids = kernels.SegmentIds(q=q_segment, kv=kv_segment)
    return kernel(q, k, v, segment_ids=segment_ids)

  q = (q * q.shape[-1] ** -0.5).astype(q.dtype)
  q = jnp.swapaxes(q, 1, 2)  # [B H L d]
  k = jnp.swapaxes(k, 1, 2)
  v = jnp.swapaxes(v, 1, 2)
  out = jax.vmap(attend_row)(q, k, v, q_segment, kv_segment)
  return jnp.swapaxes(out, 1, 2)


def _without_strangers(kernel, q_segment, kv_segment):
  """Removes blocks whose segments do not meet in any row.

  The kernel reads its table of blocks at run time: 0 stands for a block that is not computed.
  """
  sizes = kernel.kwargs["block_sizes"]
  forward = _meet(q_segment, kv_segment, sizes.block_q, sizes.block_kv)
  d_q = _meet(q_segment, kv_segment, sizes.block_q_dq, sizes.block_kv_dq)
  d_kv = _meet(q_segment, kv_segment, sizes.block_q_dkv, sizes.block_kv_dkv)
  return kernels.SplashAttentionKernel(
    _emptied(kernel.fwd_mask_info, forward, axis=2),
    _emptied(kernel.dq_mask_info, d_q, axis=2),
    _emptied(kernel.dkv_mask_info, d_kv, axis=1),
    **kernel.kwargs,
  )


def _meet(q_segment, kv_segment, q_block: int, kv_block: int) -> Bool[Array, "1 n m"]:
  """Whether blocks may share a segment, in some row."""
  batch = q_segment.shape[0]
  first_q, last_q = tiles.segment_range(q_segment.reshape(batch, -1, q_block))
  first_kv, last_kv = tiles.segment_range(kv_segment.reshape(batch, -1, kv_block))
  before = last_q[:, :, None] < first_kv[:, None]
  after = first_q[:, :, None] > last_kv[:, None]
  return (~(before | after)).any(0, keepdims=True)


def _emptied(info, meet, axis: int):
  """A table of blocks without those that do not meet.

  Its entries name a block of keys along axis 2, or of queries along axis 1.
  """
  if info is None or info.block_mask is None:
    return info
  index = jnp.asarray(info.data_next, jnp.int32)
  live = jnp.take_along_axis(meet, index, axis=axis)
  block_mask = jnp.where(live, info.block_mask, 0)
  return info._replace(block_mask=block_mask.astype(info.block_mask.dtype))


def _kernel(length: int, heads: int, shards: int, order: int, interpret: bool):
  """The kernel for rows of `length` places.

  Queries are in `order`-way zig-zag order over `shards`. Every trace builds a new kernel, because
  it holds the tracers of that trace; jax caches the block tables, the costly part.
  """
  q_block = _largest_block(length // shards, 512)
  kv_block = _largest_block(length, max(_BLOCKS))
  if q_block is None or kv_block is None:
    raise ValueError(
      f"config.model.llm.attention='splash' needs rows that split into {shards} shards of whole "
      f"blocks of 128; {length} positions do not. Set the length in config.data.rows to a "
      f"multiple of {128 * shards}."
    )
  compute = min(512, kv_block)
  blocks = kernels.BlockSizes(
    block_q=q_block,
    block_kv=kv_block,
    block_kv_compute=compute,
    block_q_dkv=q_block,
    block_kv_dkv=kv_block,
    block_kv_dkv_compute=compute,
    block_q_dq=q_block,
    block_kv_dq=kv_block,
  )
  places = np.arange(length) if order == 1 else zigzag.order(length, order)
  mask = masks.MultiHeadMask([CausalByCorners(length, places)] * heads)
  return kernels.make_splash_mha(
    mask,
    block_sizes=blocks,
    head_shards=1,
    q_seq_shards=shards,
    residual_checkpoint_name=SAVED,
    interpret=interpret,
  )


def _largest_block(length: int, limit: int) -> int | None:
  """The largest block, up to `limit`, that divides `length`."""
  for block in _BLOCKS:
    if block <= limit and length % block == 0:
      return block
  return None


def _causal(q, k):
  return q >= k


class CausalByCorners(masks._ComputableMask):
  """A causal mask over queries in any order of places.

  When building its block table the kernel only asks whether a block is empty or full. The extreme
  places of a block answer this: seconds instead of minutes at 100,000 places.
  """

  def __init__(self, length: int, places: np.ndarray):
    super().__init__((length, length), mask_function=_causal, shard_count=1)
    self.q_sequence = places.astype(np.int32)

  def __getitem__(self, index):
    rows, columns = index
    places = self.q_sequence[rows]
    some = places.max() >= columns.start
    every = places.min() >= columns.stop - 1
    return np.array([[some, every]])

  def __eq__(self, other):
    if not isinstance(other, CausalByCorners) or self.shape != other.shape:
      return False
    return np.array_equal(self.q_sequence, other.q_sequence)

  def __hash__(self):
    return hash((type(self), self.shape, self.q_sequence.tobytes()))
