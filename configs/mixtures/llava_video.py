# SPDX-License-Identifier: Apache-2.0
"""The 38 files of LLaVA-Video-178K, under the hub's names and under VideoChat-Flash's."""

from filax.configs.mixtures import sources
from filax.configs.mixtures.parts import MixturePart

# (folder, file, samples); the numbers are those of VideoChat-Flash's copies.
FILES = (
  ("0_30_s_academic_v0_1", "0_30_s_academic_mc_v0_1_qa_processed", "5753"),
  ("0_30_s_academic_v0_1", "0_30_s_academic_oe_v0_1_qa_processed", "48468"),
  ("0_30_s_academic_v0_1", "0_30_s_academic_v0_1_cap_processed", "11985"),
  ("0_30_s_activitynetqa", "0_30_s_activitynetqa_oe_qa_processed", "2950"),
  ("0_30_s_nextqa", "0_30_s_nextqa_mc_qa_processed", "5496"),
  ("0_30_s_nextqa", "0_30_s_nextqa_oe_qa_processed", "5492"),
  ("0_30_s_perceptiontest", "0_30_s_perceptiontest_mc_qa_processed", "1785"),
  ("0_30_s_youtube_v0_1", "0_30_s_youtube_mc_v0_1_qa_processed", "39353"),
  ("0_30_s_youtube_v0_1", "0_30_s_youtube_oe_v0_1_qa_processed", "420200"),
  ("0_30_s_youtube_v0_1", "0_30_s_youtube_v0_1_cap_processed", "79346"),
  ("1_2_m_academic_v0_1", "1_2_m_academic_mc_v0_1_qa_processed", "4241"),
  ("1_2_m_academic_v0_1", "1_2_m_academic_oe_v0_1_qa_processed", "26302"),
  ("1_2_m_academic_v0_1", "1_2_m_academic_v0_1_cap_processed", "4627"),
  ("1_2_m_activitynetqa", "1_2_m_activitynetqa_oe_qa_processed", "8590"),
  ("1_2_m_nextqa", "1_2_m_nextqa_mc_qa_processed", "4633"),
  ("1_2_m_nextqa", "1_2_m_nextqa_oe_qa_processed", "4694"),
  ("1_2_m_youtube_v0_1", "1_2_m_youtube_mc_v0_1_qa_processed", "39710"),
  ("1_2_m_youtube_v0_1", "1_2_m_youtube_oe_v0_1_qa_processed", "137645"),
  ("1_2_m_youtube_v0_1", "1_2_m_youtube_v0_1_cap_processed", "24234"),
  ("2_3_m_academic_v0_1", "2_3_m_academic_mc_v0_1_qa_processed", "6901"),
  ("2_3_m_academic_v0_1", "2_3_m_academic_oe_v0_1_qa_processed", "18134"),
  ("2_3_m_academic_v0_1", "2_3_m_academic_v0_1_cap_processed", "3124"),
  ("2_3_m_activitynetqa", "2_3_m_activitynetqa_oe_qa_processed", "7460"),
  ("2_3_m_nextqa", "2_3_m_nextqa_mc_qa_processed", "52"),
  ("2_3_m_nextqa", "2_3_m_nextqa_oe_qa_processed", "61"),
  ("2_3_m_youtube_v0_1", "2_3_m_youtube_mc_v0_1_qa_processed", "39967"),
  ("2_3_m_youtube_v0_1", "2_3_m_youtube_oe_v0_1_qa_processed", "141495"),
  ("2_3_m_youtube_v0_1", "2_3_m_youtube_v0_1_cap_processed", "24685"),
  ("30_60_s_academic_v0_1", "30_60_s_academic_mc_v0_1_qa_processed", "20346"),
  ("30_60_s_academic_v0_1", "30_60_s_academic_oe_v0_1_qa_processed", "57924"),
  ("30_60_s_academic_v0_1", "30_60_s_academic_v0_1_cap_processed", "10514"),
  ("30_60_s_activitynetqa", "30_60_s_activitynetqa_oe_qa_processed", "4530"),
  ("30_60_s_nextqa", "30_60_s_nextqa_mc_qa_processed", "6843"),
  ("30_60_s_nextqa", "30_60_s_nextqa_oe_qa_processed", "6843"),
  ("30_60_s_perceptiontest", "30_60_s_perceptiontest_mc_qa_processed", "618"),
  ("30_60_s_youtube_v0_1", "30_60_s_youtube_mc_v0_1_qa_processed", "39927"),
  ("30_60_s_youtube_v0_1", "30_60_s_youtube_oe_v0_1_qa_processed", "110624"),
  ("30_60_s_youtube_v0_1", "30_60_s_youtube_v0_1_cap_processed", "19995"),
)


def as_published() -> tuple[MixturePart, ...]:
  """The parts as on the hub of LLaVA-Video-178K, where no durations are given."""
  return tuple(
    _part(f"{folder}/{name}.json", count, sources.LLAVA_VIDEO.media)
    for folder, name, count in FILES
  )


def with_durations() -> tuple[MixturePart, ...]:
  """The parts as on the hub of VideoChat-Flash, whose records have a `duration`."""
  return tuple(
    _part(
      f"annotations/video/llava-video_{name}_{count}_with_duration.jsonl",
      count,
      sources.VIDEOCHAT_FLASH,
    )
    for _, name, count in FILES
  )


def _part(file: str, count: str, annotations: str) -> MixturePart:
  return MixturePart(file, "all", count, annotations, sources.LLAVA_VIDEO)
