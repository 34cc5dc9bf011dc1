# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 4: a quarter of stage 3's parts, and pictures of rendered text.

The parts of which stage 3 takes a share already keep that share, as in the training code.
"""

from filax.configs.mixtures import sources, vcf_stage3
from filax.configs.mixtures.parts import MixturePart, parts

QUARTER = "first:25%"


def _quarter(part: MixturePart) -> MixturePart:
  return part._replace(strategy=QUARTER) if part.strategy == "all" else part


PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ONEVISION_MID,
    ("annotations/image/synthdog_zh_processed.json", "first:10%", "unknown"),
    ("annotations/image/synthdog_en_processed.json", "first:10%", "unknown"),
  ),
  *map(_quarter, vcf_stage3.PARTS),
)
