# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 1: BLIP-558K.

The paper names the set; the file is that of its release.
"""

from filax.configs.mixtures import sources
from filax.configs.mixtures.parts import MixturePart, parts

PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.BLIP_558K.media,
    sources.BLIP_558K,
    ("blip_laion_cc_sbu_558k.json", "all", "558k"),
  ),
)
