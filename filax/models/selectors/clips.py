# SPDX-License-Identifier: Apache-2.0
"""The clips of a video encoder as groups: `size` is its `clip`, the frames it reads jointly."""

from filax.models.selectors.uniform import Uniform


class Clips(Uniform):
  """tokens [B T N E], mask [B T] -> G = T / size clips, as they left the encoder."""

  size: int = 4


Model = Clips
