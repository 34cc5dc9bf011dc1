# SPDX-License-Identifier: Apache-2.0
"""Settings of released video LLMs, and the implemented values.

A missing key has the value of the released models. Unlisted keys have no effect on the numbers:
learning rates of training, or fields that the released code itself does not read.
"""

from collections.abc import Mapping
from typing import Any

_COMMON = {
  "mm_vision_select_layer": (-2,),
  "mm_vision_select_feature": ("patch",),
  "mm_use_im_start_end": (False,),
  "mm_use_im_patch_token": (False,),
  "use_pos_skipping": (False,),
}
FLASH = _COMMON | {
  "mm_local_num_frames": (4,),  # The clip length of its towers: four times 16 tokens.
  "vision_encode_type": ("video_image",),
  "mm_patch_merge_type": ("spatial_nopad", "flat"),  # The same for a video.
  "mm_newline_position": ("nothing",),
  "frame_aspect_ratio": ("square",),
  "image_aspect_ratio": ("anyres_nopad",),
}
LLAVA = _COMMON | {
  "mm_projector_type": ("mlp2x_gelu",),
  "mm_patch_merge_type": ("flat", "spatial_unpad"),
  "mm_newline_position": ("one_token", "no_token", "frame", "grid"),
  "mm_spatial_pool_mode": ("bilinear",),
  "mm_spatial_pool_stride": (2,),
  "mm_resampler_type": ("spatial_pool",),
  "vision_encode_type": ("image",),
  "frame_aspect_ratio": ("square",),
  "add_faster_video": (False,),  # Adds a second, coarser copy of the frames.
}


def check_released_keys(
  config: Mapping[str, Any],
  implemented: Mapping[str, tuple[Any, ...]],
) -> None:
  """Raises ValueError naming every setting of config.json that is not implemented."""
  refused = []
  for key, values in implemented.items():
    value = config.get(key)
    if value is None or _contains(values, value):
      continue
    allowed = " or ".join(map(repr, values))
    refused.append(f"{key}={value!r} (only {allowed} is)")
  if refused:
    raise ValueError(f"config.json has what is not implemented: {', '.join(refused)}.")


def _contains(values: tuple[Any, ...], value: Any) -> bool:
  """Whether `value` is among `values`, with its type: False is not 0."""
  return any(value == other and type(value) is type(other) for other in values)
