# SPDX-License-Identifier: Apache-2.0
"""The clips of a video encoder as groups.

`size` is the encoder's `clip`, the number of frames encoded jointly.
"""

from filax.models.selectors.uniform import Uniform


class Clips(Uniform):
  """Groups of the frames of each clip.

  tokens [B T N E], mask [B T] -> G = T / size clips, unchanged.
  """

  size: int = 4


Model = Clips
