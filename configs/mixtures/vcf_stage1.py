# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 1: the list of its training code, two parts."""

from filax.configs.mixtures import sources
from filax.configs.mixtures.parts import MixturePart, parts

PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SMIT,
    ("annotations/video/smit_caption_481k.json", "all", "481k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.BLIP_558K,
    ("annotations/image/blip_laion_cc_sbu_558k.json", "all", "558k"),
  ),
)
