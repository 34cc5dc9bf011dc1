# SPDX-License-Identifier: Apache-2.0
"""How published needle tests are made: grids, questions and comparison."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from data_pipelines.synthesis import needle_questions

LONGVA_DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclasses.dataclass(frozen=True)
class NeedleProtocol:
  """Lengths, depths and the rule of a right answer."""

  benchmark: str
  version: str  # The code that it follows.
  lengths: tuple[int, ...]
  depths: tuple[float, ...]  # () for multi hop: needles are spread over the video.
  drawn: Callable[[int, int], list[dict[str, Any]]]  # (count, seed) -> records about cards.
  items: int  # Published needles.
  all_ids: bool  # Whether every id of the answer must be right; otherwise texts are compared.
  twice: bool = False  # Whether a haystack of many frames is shown twice, half as long.
  haystack: str = ""  # The haystack of the published numbers, in words.
  note: str = ""

  @property
  def multi_hop(self) -> bool:
    return not self.depths


SYSTEM = "You are a helpful assistant."
_PADDED = (
  " Pictures are padded to squares with grey; published ones with the encoder's mean colour."
)
_VCF = "VideoChat-Flash's vision_niah"
_VCF_HAYSTACK = "video_haystack.mkv of the data set OpenGVLab/NIAH-Video"

PROTOCOLS = {
  "longva": NeedleProtocol(
    benchmark="niah",
    version="LongVA f4c8781, vision_niah",
    lengths=tuple(range(200, 3001, 200)),
    depths=LONGVA_DEPTHS,
    drawn=needle_questions.text_records,
    items=5,
    all_ids=True,
    haystack="a feature film that is not public",
    note=(
      "One needle frame is added, repeated to the frames that the model reads jointly." + _PADDED
    ),
  ),
  "vcf": NeedleProtocol(
    benchmark="niah",
    version=_VCF,
    lengths=tuple(range(1000, 10_001, 1000)),
    depths=LONGVA_DEPTHS,
    drawn=needle_questions.choice_records,
    items=20,
    all_ids=False,
    twice=True,
    haystack=_VCF_HAYSTACK,
    note="The needle is a clip of equal frames." + _PADDED,
  ),
  "vcf-multihop": NeedleProtocol(
    benchmark="niah-multihop",
    version=_VCF,
    lengths=tuple(range(1000, 10_001, 1000)),
    depths=(),
    drawn=needle_questions.chain_records,
    items=100,
    all_ids=False,
    twice=True,
    haystack=_VCF_HAYSTACK,
    note=(
      "CAP: the caption of the last frame. The paper's QA is joint: caption and answer are right; "
      "the code's QA Score counts answers alone. The released file changed item 1 in November "
      "2025, after the published numbers." + _PADDED
    ),
  ),
}


def find_needle_protocol(name: str, multi_hop: bool) -> tuple[str, NeedleProtocol]:
  """(name, protocol). Raises ValueError for an unknown combination."""
  full = f"{name}-multihop" if multi_hop else name
  if full not in PROTOCOLS or name not in ("longva", "vcf"):
    raise ValueError(
      f"--protocol={name!r}{' with --multi-hop' if multi_hop else ''} is unknown. Set it to "
      "longva, vcf, or vcf with --multi-hop."
    )
  return full, PROTOCOLS[full]


def comparison_text(text: str) -> str:
  """An answer as VideoChat-Flash compares it."""
  return text.lower().replace("(", "").replace(")", "").strip()


def incomparable_reasons(
  protocol: NeedleProtocol,
  *,
  lengths: Sequence[int],
  depths: Sequence[float],
  items: int,
  drawn: bool,
  haystack: str,
  dropout: bool,
  prompt: Mapping[str, Any],
) -> list[str]:
  """Why the score does not compare with published ones.

  [] if it does.
  """
  reasons = []
  if tuple(lengths) != protocol.lengths:
    reasons.append(f"Published lengths are {_in_words(protocol.lengths)}.")
  if tuple(depths) != protocol.depths:
    reasons.append(f"Published depths are {_in_words(protocol.depths)}.")
  if drawn:
    reasons.append("The needles are drawn cards, not the published ones.")
  elif items != protocol.items:
    reasons.append(f"{items} of {protocol.items} published needles were asked.")
  if not haystack:
    reasons.append(f"The haystack is drawn; the published one is {protocol.haystack}.")
  elif not haystack.endswith("video_haystack.mkv"):
    reasons.append(f"The published haystack is {protocol.haystack}.")
  if prompt["template"] != "chatml" or prompt["system"] != SYSTEM:
    reasons.append(f"Published prompts are ChatML with the system turn {SYSTEM!r}.")
  if dropout:
    reasons.append("Published models ran without visual dropout.")
  return reasons


def _in_words(values: Sequence[float]) -> str:
  if not values:
    return "none"
  step = round(values[1] - values[0], 6)
  return f"{values[0]:g}, {values[0] + step:g}, ..., {values[-1]:g}"
