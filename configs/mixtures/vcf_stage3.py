# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 3: the list of its training code, 104 parts.

The paper counts 3.5 million samples: 1.1 M of pictures, 1.7 M of short videos and 0.7 M of long
ones. Numbers such as 40k are those in the names of the files, which are rounded.
"""

from filax.configs.mixtures import llava_video, sources
from filax.configs.mixtures.parts import MixturePart, parts

PARTS: tuple[MixturePart, ...] = (
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ONEVISION,
    ("annotations/image/textcaps.json", "all", "21942"),
    ("annotations/image/textocr(gpt4v).json", "all", "25104"),
    ("annotations/image/rendered_text(cauldron)_fix.json", "all", "9995"),
    ("annotations/image/iam(cauldron)_fix.json", "all", "5658"),
    ("annotations/image/llavar_gpt4_20k.json", "all", "19790"),
    ("annotations/image/allava_instruct_vflan4v.json", "all", "unknown"),
    ("annotations/image/allava_instruct_laion4v.json", "all", "unknown"),
    ("annotations/image/sharegpt4o.json", "all", "unknown"),
    ("annotations/image/sharegpt4v(coco).json", "all", "unknown"),
    ("annotations/image/sharegpt4v(knowledge).json", "all", "unknown"),
    ("annotations/image/sharegpt4v(llava).json", "all", "unknown"),
    ("annotations/image/sharegpt4v(sam).json", "all", "unknown"),
    ("annotations/image/tallyqa(cauldron,llava_format)_fix.json", "first:10%", "98675"),
    ("annotations/image/st_vqa(cauldron,llava_format)_fix.json", "all", "17242"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.LLAVA_NEXT,
    ("annotations/image/llava_next_raw_format_processed_738k.json", "first:25%", "738k"),
  ),
  *parts(
    sources.M4_INSTRUCT.media,
    sources.M4_INSTRUCT,
    ("m4_instruct_annotations.json", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.WEBVID,
    ("annotations/video/caption_sharegemini_webvid_core100k_clean.json", "first:20%", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.KINETICS_400,
    ("annotations/video/caption_sharegemini_k400_223k.json", "all", "223k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.YOUCOOK2,
    ("annotations/video/caption_youcook2-youcook2-train_debug_9k.json", "all", "9k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.TEXTVR,
    ("annotations/video/caption_textvr-textvr-train_40k.json", "all", "40k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.MOVIECHAT,
    ("annotations/video/moviechat1k_caption-MovieChat-train_caption_1k.json", "all", "1k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.FAVD,
    ("annotations/video/caption_favd-favd-train_10k.json", "first:25%", "10k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SHAREGPTVIDEO,
    (
      "annotations/video/caption_sharegptvideo_300k-sharegptvideo-train_300k_302k.json",
      "first:25%",
      "302k",
    ),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SHAREGPT4O,
    ("annotations/video/caption_sharegpt4o-sharegpt4o_3k.json", "all", "3k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.TVQA,
    ("annotations/video/vqa_tvqa-tvqa_123k.jsonl", "all", "123k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.NEXTQA,
    ("annotations/video/reasoning_next_qa-next_qa-train_35k.jsonl", "all", "35k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.TGIF,
    (
      "annotations/video/vqa_tgif_transition_qa-tgif_transition_qa-train_53k.jsonl",
      "first:25%",
      "53k",
    ),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.CLEVRER,
    ("annotations/video/reasoning_clevrer_mc-clevrer_mc-train_43k_debug_43k.jsonl", "all", "43k"),
    ("annotations/video/reasoning_clevrer_qa-clevrer_qa-train_mc_40k.jsonl", "all", "40k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.KINETICS_710,
    ("annotations/video/classification_k710-k710-train_40k.jsonl", "first:25%", "40k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SSV2,
    ("annotations/video/classification_ssv2-ssv2-train_40k.jsonl", "first:25%", "40k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.LSMDC,
    ("annotations/video/lsmdc-lsmdc_297k.json", "first:25%", "297k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.NTU_RGBD,
    ("annotations/video/vqa_rgbd-nturgbd_clean_110k.json", "first:25%", "110k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.PERCEPTION_TEST,
    ("annotations/video/vqa_perception_train-mc_question_train_forchoice_8k.json", "all", "8k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.EGO4D,
    ("annotations/video/vqa_ego_qa-ego_qa-train_8k.jsonl", "all", "8k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.TGIF,
    (
      "annotations/video/vqa_tgif_transition_qa_openend-openend_qa_annos-tgif_transition_qa_train_openend_53k.jsonl",
      "first:25%",
      "53k",
    ),
    ("annotations/video/vqa_tgif_frame_qa-tgif_frame_qa-train_40k.jsonl", "first:25%", "40k"),
    ("annotations/video/vqa_tgif_count-openend_qa_train_openend_26839.jsonl", "all", "26839"),
    ("annotations/video/vqa_tgif_action-openend_qa_train_openend_20471.jsonl", "all", "20471"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.NEXTQA,
    (
      "annotations/video/reasoning_next_qa_oe-openend_qa_annos-next_qa_train_openend_35k.jsonl",
      "all",
      "35k",
    ),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.WEBVID,
    ("annotations/video/vqa_webvid_qa-webvid_qa-train_100k.jsonl", "first:25%", "100k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.MOVIECHAT,
    ("annotations/video/moviechat1k_global-MovieChat-train_global_1k.jsonl", "all", "1k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.DIDEMO,
    ("annotations/video/grounding_didemo-didemo-train_66k.json", "all", "66k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.SHAREGPTVIDEO,
    (
      "annotations/video/vqa_sharegptvideo_240k-sharegptvideo-train_240k_240k.json",
      "first:25%",
      "240k",
    ),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.KINETICS_700,
    ("annotations/video/caption_vidln_kinetics-vidln-kinetics_train_28k.json", "all", "28k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.OOPS,
    ("annotations/video/caption_vidln_oops-vidln-oops_train_11k.json", "all", "11k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.OVIS,
    ("annotations/video/caption_vidln_ovis-vidln-ovis_train_1k.json", "all", "1k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.UVO,
    ("annotations/video/caption_vidln_uvo_sparse-vidln-uvo_sparse_train_6k.json", "all", "6k"),
    ("annotations/video/caption_vidln_uvo_dense-vidln-uvo_dense_train_1k.json", "all", "1k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.STAR,
    ("annotations/video/reasoning_star-star-train_46k.json", "all", "46k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ACTIVITYNET,
    ("annotations/video/vcg-plus_112K_clean_97k.json", "first:10%", "97k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.VRIPT,
    ("annotations/video/vript_long_videos_en_20240911_fix.jsonl", "first:25%", "unknown"),
    ("annotations/video/vript_short_videos_en_20240911_fix.jsonl", "all", "unknown"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.GUI_WORLD,
    ("annotations/video/guiworld_en_20241029_fix.jsonl", "all", "unknown"),
  ),
  *llava_video.with_durations(),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ACTIVITYNET,
    ("annotations/video/timeit_ANet-TimeIT-Activitynet_Captions_11k.json", "all", "11k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.COIN,
    ("annotations/video/timeit_COIN-TimeIT-COIN_10k.json", "all", "10k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.DIDEMO,
    ("annotations/video/timeit_DiDeMo-TimeIT-DiDeMo_33k.json", "all", "33k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.HIREST,
    ("annotations/video/timeit_HiREST-TimeIT-HiREST_1k.json", "all", "1k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.QUERYD,
    ("annotations/video/timeit_QuerYD-TimeIT-QuerYD_15k.json", "all", "15k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.VITT,
    ("annotations/video/timeit_ViTT-TimeIT-ViTT_6k.json", "all", "6k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.ACTIVITYNET,
    ("annotations/video/grounding_ANetRTL-ActivityNet-RTL-ANet_RTL_34k.json", "all", "34k"),
    ("annotations/video/grounding_ANetHL-ANet-HL-ANet_HL2_11k.json", "all", "11k"),
  ),
  *parts(
    sources.VIDEOCHAT_FLASH,
    sources.LONGVID,
    (
      "annotations/video/htstep_eventunderstanding-longvideo_annos-htstep_eventunderstanding_1k_1k.json",
      "all",
      "1k",
    ),
    (
      "annotations/video/htstep_eventcount-longvideo_annos-htstep_eventcount_2k_2k.json",
      "all",
      "2k",
    ),
    (
      "annotations/video/htstep_eventrelationship-longvideo_annos-htstep_eventrelationship_1k_1k.json",
      "all",
      "1k",
    ),
    (
      "annotations/video/ego4dhcap_eventunderstanding-longvideo_annos-ego4dhcap_eventunderstanding_2k_2k.json",
      "all",
      "2k",
    ),
  ),
)
