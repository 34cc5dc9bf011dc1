# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 2: the list of its training code, twelve parts."""

from filax.configs.mixtures import sources
from filax.configs.mixtures.parts import MixturePart, parts

PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.RECAP_118K,
    ("annotations/image/LLaVA-ReCap-118K.json", "all", "118k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.RECAP_CC3M,
    ("annotations/image/LLaVA-ReCap-CC3M.json", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.RECAP_558K,
    ("annotations/image/LLaVA-ReCap-558K.json", "all", "558k"),
  ),
  *parts(
    sources.ONEVISION_MID.media,
    sources.NO_MEDIA,
    ("evol_instruct_processed.json", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.WEBVID,
    ("annotations/video/webvid-fuse_caption_2m.json", "all", "2m"),
    ("annotations/video/caption_sharegemini_webvid_core100k_clean.json", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.KINETICS_400,
    ("annotations/video/caption_sharegemini_k400_223k.json", "all", "223k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ONEVISION_MID,
    ("annotations/image/ureader_tr_processed.json", "all", "unknown"),
    ("annotations/image/synthdog_zh_processed.json", "all", "unknown"),
    ("annotations/image/synthdog_en_processed.json", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SMIT,
    ("annotations/video/smit_caption_481k.json", "all", "481k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SHAREGPTVIDEO,
    (
      "annotations/video/caption_sharegptvideo_300k-sharegptvideo-train_300k_302k.json",
      "all",
      "302k",
    ),
  ),
)
