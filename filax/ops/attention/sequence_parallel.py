# SPDX-License-Identifier: Apache-2.0
"""Attention over sequences that are sharded over the mesh axis `seq`.

The signature is the same as in ops.attention.dense. Strategies:

gather   every device gathers all keys and values (arXiv:2407.21783 §3.3.2): the default.
ring     keys and values travel around, partial results are merged (arXiv:2310.01889).
ulysses  heads are traded for sequence (arXiv:2309.14509): as many devices as heads allow.
ulysses_ring  ulysses within groups of neighbours, ring between the groups (arXiv:2405.07719).

Masks come from (segment, place), so contiguous and zig-zag order share the same code.
"""

from collections.abc import Callable
import dataclasses
from functools import partial
import math

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float
import numpy as np

from filax.ops.attention import blockwise, cudnn, dense
from filax.ops.attention import ring as ring_attention
from filax.ops.attention.choice import UNKNOWN, Layout, choose
from filax.ops.attention.device import device_in_use
from filax.parallel import zigzag
from filax.parallel.rules import ACTIVATION_AXES

AXIS = "seq"
WHOLE_ROWS = ("cudnn_causal", "cudnn_packed")  # Kernels that need the order of places.


def attend(kernel: str, strategy: str, ulysses: int = 0, samples: int = UNKNOWN) -> Callable:
  """The attention function of a config for the mesh in use.

  Returns attend(q, k, v, q_at, kv_at). `samples` is the most samples that a row holds: with it,
  rows are in the order of places, or in zig-zag order over `seq`, and padding ends them. "auto"
  then selects the fastest kernel of the device (ops.attention.choice).
  """
  if strategy not in STRATEGIES:
    raise ValueError(
      f"config.model.llm.sequence={strategy!r} is unknown. Set it to one of "
      f"{', '.join(STRATEGIES)}."
    )
  if kernel == "splash":
    return _splash(strategy)
  dense.attention_kernel(kernel)  # Raises ValueError for an unknown name.
  if "ring" in strategy and _shards() > 1 and kernel not in ring_attention.WITH_LSE:
    raise ValueError(
      f"config.model.llm.sequence={strategy!r} needs a kernel that returns its log-sum-exp. Set "
      f"config.model.llm.attention to one of {', '.join(ring_attention.WITH_LSE)}, or sequence to "
      f"gather."
    )
  if kernel == "cudnn" and samples == UNKNOWN:
    raise ValueError(
      "config.model.llm.attention='cudnn' needs rows with a known number of samples, and this "
      "program has none. Set it to auto."
    )
  if kernel == "cudnn" and strategy != "ulysses" and _shards() > 1:
    raise ValueError(
      f"config.model.llm.attention='cudnn' has no sequence={strategy!r}. Set "
      f"config.model.llm.sequence to ulysses, or attention to auto."
    )
  return partial(_attend, kernel, strategy, ulysses, samples)


def _attend(kernel: str, strategy: str, ulysses: int, samples: int, q, k, v, q_at, kv_at):
  """Attention by `kernel`, or by the one that it stands for."""
  if kernel == "auto":
    kernel = _fastest(strategy, samples, q, k)
  elif kernel == "cudnn":
    kernel = "cudnn_causal" if samples == 1 else "cudnn_packed"
  if kernel == "splash":
    return _splash(strategy)(q, k, v, q_at, kv_at)
  attend_rows = _kernel(kernel, samples)
  shards = _shards()
  if shards == 1:
    return attend_rows(q, k, v, q_at, kv_at)
  if strategy == "ulysses":
    ulysses = shards
  if kernel in WHOLE_ROWS:
    attend_rows = partial(_in_order_of_places, attend_rows)
  with_lse = ring_attention.WITH_LSE.get(kernel, blockwise.with_lse)
  options = Options(attend_rows, with_lse, ulysses)
  return _on_every_device(partial(STRATEGIES[strategy], options=options), q, k, v, q_at, kv_at)


def _fastest(strategy: str, samples: int, q, k) -> str:
  """The kernel that "auto" stands for.

  "auto" where only the shapes on a device decide.
  """
  device = device_in_use()
  layout = Layout(
    queries=q.shape[1],
    keys=k.shape[1],
    samples=samples,
    strategy=strategy,
    shards=_shards(),
    splash=device.platform == "tpu" and _suits_splash(strategy, q.shape),
  )
  name = choose(device, q.dtype.name, q.shape[-1], layout)
  return "auto" if name in dense.KERNELS else name


def _suits_splash(strategy: str, shape: tuple[int, ...]) -> bool:
  """Whether splash supports queries [B L H d] on this mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return False
  from filax.ops.attention import splash

  return splash.suits(strategy, shape, mesh)


def _splash(strategy: str) -> Callable:
  """splash.attend; importing the kernel takes a fifth of a second."""
  from filax.ops.attention import splash

  return splash.attend(strategy)


def _kernel(name: str, samples: int) -> Callable:
  """The function of a kernel that runs on one device."""
  if name == "cudnn_causal":
    return cudnn.causal
  if name == "cudnn_packed":
    return partial(cudnn.packed, samples=samples)
  return dense.attention_kernel(name)


def _in_order_of_places(attend_rows, q, k, v, q_at, kv_at):
  """Runs a kernel for whole rows on rows in zig-zag order."""
  shards = lax.axis_size(AXIS)
  arrays = jax.tree.map(partial(zigzag.natural, shards=shards), (q, k, v, q_at, kv_at))
  out = attend_rows(*arrays)
  return out[:, zigzag.order(out.shape[1], shards)]


def _shards() -> int:
  """The number of devices that share a row."""
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty else mesh.shape[AXIS]


def _on_every_device(body, q, k, v, q_at, kv_at) -> Float[Array, "B L H d"]:
  """Runs `body` on every device's rows, places and heads."""
  places = P(ACTIVATION_AXES["batch"], AXIS)
  heads = P(*places, ACTIVATION_AXES["heads"])
  in_specs = (heads, heads, heads, (places, places), (places, places))
  on_mesh = jax.shard_map(body, in_specs=in_specs, out_specs=heads)
  return on_mesh(q, k, v, q_at, kv_at)


@dataclasses.dataclass(frozen=True)
class Options:
  """What a strategy runs on a device."""

  attend: Callable  # The kernel.
  with_lse: Callable  # The kernel of a ring: its partial results can be merged.
  degree: int  # Devices that share heads.


def gather(q, k, v, q_at, kv_at, *, options: Options):
  """Attention of local queries to gathered keys of all devices."""
  k = lax.all_gather(k, AXIS, axis=1, tiled=True)
  v = lax.all_gather(v, AXIS, axis=1, tiled=True)
  segment, place = kv_at
  segment = lax.all_gather(segment, AXIS, axis=1, tiled=True)
  place = lax.all_gather(place, AXIS, axis=1, tiled=True)
  return options.attend(q, k, v, q_at, (segment, place))


def ring(q, k, v, q_at, kv_at, *, options: Options):
  """Attention of local queries to all keys, device by device."""
  return ring_attention.ring(q, k, v, q_at, kv_at, axis=AXIS, with_lse=options.with_lse)


def ulysses(q, k, v, q_at, kv_at, *, options: Options):
  """Attention with whole sequences and a share of heads per device.

  With a degree below the number of devices, a ring connects groups of `degree` neighbours.
  """
  size = lax.axis_size(AXIS)
  degree = options.degree or math.gcd(size, q.shape[2])
  _check_degree(size, degree, q.shape[2], k.shape[2])
  groups = None
  if degree < size:
    groups = np.arange(size).reshape(-1, degree).tolist()
  k = _repeat_heads(k, degree)
  v = _repeat_heads(v, degree)
  trade = partial(lax.all_to_all, axis_name=AXIS, axis_index_groups=groups, tiled=True)
  q = trade(q, split_axis=2, concat_axis=1)
  k = trade(k, split_axis=2, concat_axis=1)
  v = trade(v, split_axis=2, concat_axis=1)
  gather_places = partial(
    lax.all_gather, axis_name=AXIS, axis_index_groups=groups, axis=1, tiled=True
  )
  q_at, kv_at = jax.tree.map(gather_places, (q_at, kv_at))
  if groups is None:
    out = options.attend(q, k, v, q_at, kv_at)
  else:
    out = ring_attention.ring(
      q, k, v, q_at, kv_at, axis=AXIS, with_lse=options.with_lse, stride=degree
    )
  return trade(out, split_axis=1, concat_axis=2)


def _check_degree(size: int, degree: int, heads: int, kv_heads: int) -> None:
  """Raises ValueError unless `degree` devices can share the heads."""

  def fits(degree: int) -> bool:
    if size % degree or heads % degree:
      return False
    copies = math.lcm(kv_heads, degree) // kv_heads
    return (heads // kv_heads) % copies == 0

  if fits(degree):
    return
  choices = list(filter(fits, range(1, size + 1)))
  raise ValueError(
    f"config.model.llm.ulysses={degree} does not fit {heads} query heads, {kv_heads} kv heads "
    f"and config.mesh.seq={size}. Set it to one of {choices} with sequence=ulysses_ring, or "
    f"sequence to gather or ring."
  )


def _repeat_heads(x, degree: int):
  """Repeats kv heads until `degree` devices can share them.

  x is [B S K d].
  """
  copies = math.lcm(x.shape[2], degree) // x.shape[2]
  if copies == 1:
    return x
  return jnp.repeat(x, copies, axis=2)


STRATEGIES = {"gather": gather, "ring": ring, "ulysses": ulysses, "ulysses_ring": ulysses}
