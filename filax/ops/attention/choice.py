# SPDX-License-Identifier: Apache-2.0
"""What attention="auto" stands for: a pure function of the device, the numbers and the layout.

| device | rows | kernel |
|---|---|---|
| TPU | queries and keys of one row, whole blocks of 128 | splash |
| GPU from Ampere, half precision | one sample a row, whole on the device | cudnn_causal |
| GPU from Hopper, half precision | few samples a row, whole on the device | cudnn_packed |
| any other | few scores | dense |
| | many scores | blockwise |
"""

import dataclasses

from filax.ops.attention.device import Device

# Platform -> scores up to which one matrix is better than tiles. On a CPU tiles win much earlier:
# several times faster at 512 tokens. Below 256 they gain little, and take a second longer to
# compile.
DENSE_SCORES = {"cpu": 256**2}
DENSE_SCORES_ELSEWHERE = 2048**2
PACKED_SAMPLES = 64  # cuDNN keeps f32 statistics [samples H L] of a packed row.
UNKNOWN = 0  # A number of samples a row that nobody knows while the program is traced.

_AMPERE = (8, 0)
_HOPPER = (9, 0)
_HALF = ("bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Layout:
  """How rows are filled, and how devices share them."""

  queries: int
  keys: int
  samples: int = UNKNOWN  # Most samples a row, in the order of places, padding last.
  strategy: str = "gather"
  shards: int = 1  # Devices along the mesh axis seq.
  splash: bool = False  # Whether splash supports the strategy and the shape.

  @property
  def whole_rows(self) -> bool:
    """Whether a kernel sees whole rows, queries and keys alike."""
    if self.shards > 1 and self.strategy != "ulysses":
      return False
    return self.queries == self.keys


def choose(device: Device, dtype: str, head_dim: int, layout: Layout) -> str:
  """The name of the fastest kernel that computes this call.

  `dtype` is that of queries, keys and values. A call through a cache has samples=UNKNOWN: its
  queries start at a place that is only known at run time.
  """
  if device.platform == "tpu" and layout.splash:
    return "splash"
  if layout.whole_rows and _cudnn_supports(device, dtype, head_dim):
    if layout.samples == 1:
      return "cudnn_causal"
    if 1 < layout.samples <= PACKED_SAMPLES and device.capability >= _HOPPER:
      return "cudnn_packed"
  return choose_anywhere(device, layout.queries, layout.keys)


def choose_anywhere(device: Device, queries: int, keys: int) -> str:
  """The faster one of the kernels for any layout: "dense" or "blockwise"."""
  if queries == 1 and keys <= DENSE_SCORES_ELSEWHERE:  # There are no tiles of one query.
    return "dense"
  most = DENSE_SCORES.get(device.platform, DENSE_SCORES_ELSEWHERE)
  return "dense" if queries * keys <= most else "blockwise"


def _cudnn_supports(device: Device, dtype: str, head_dim: int) -> bool:
  """Whether cuDNN's fused attention computes these numbers, forward and backward."""
  if device.platform != "gpu" or device.capability < _AMPERE:
    return False
  largest = 256 if device.capability >= _HOPPER else 128
  return dtype in _HALF and head_dim % 8 == 0 and head_dim <= largest
