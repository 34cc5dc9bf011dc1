# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 2: LLaVA-OneVision's knowledge data.

The paper says: 4.0 million samples of that data, with documents and text in pictures, and detailed
descriptions of COCO118K, BLIP558K and CC3M. Which files it took is unknown; these are those of
LLaVA-OneVision's middle stage, one of which was never released.
"""

from filax.configs.mixtures import sources
from filax.configs.mixtures.parts import MixturePart, parts

PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.RECAP_558K.media,
    sources.RECAP_558K,
    ("blip558k_stage1.5_finetune_w_prompt.json", "all", "558k"),
  ),
  *parts(
    sources.RECAP_118K.media,
    sources.RECAP_118K,
    ("coco118k_stage1.5_finetune_w_prompt.json", "all", "118k"),
  ),
  *parts(
    sources.RECAP_CC3M.media,
    sources.RECAP_CC3M,
    ("cc3m_recap_data_prompt_v2.json", "all", "unknown"),
  ),
  *parts(
    sources.ONEVISION_MID.media,
    sources.ONEVISION_MID,
    ("ureader_tr_sft.json", "all", "unknown"),
  ),
  *parts(
    sources.NOT_RELEASED.media,
    sources.NOT_RELEASED,
    ("instruct_azure_dc_zh_92K.json", "all", "92k"),
  ),
  *parts(
    sources.ONEVISION_MID.media,
    sources.NO_MEDIA,
    ("Evol-Instruct-GPT4-Turbo-143K.json", "all", "143k"),
  ),
  *parts(
    sources.ONEVISION_MID.media,
    sources.ONEVISION_MID,
    ("synthdog_zh/synthdog_zh_100k.json", "all", "100k"),
    ("synthdog_en/synthdog_en_100k.json", "all", "100k"),
  ),
)
