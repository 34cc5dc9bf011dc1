# SPDX-License-Identifier: Apache-2.0
"""Time prompts: sentences about the frame times of videos."""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class VisualText:
  """A timeline in a text: its positions and, for a video, times.

  `times` (seconds) of every frame, `group_times` of every group of frames (as the llm sees them).
  """

  tokens: int
  duration: float = 0.0
  times: Sequence[float] | np.ndarray = ()
  group_times: Sequence[float] | np.ndarray = ()


def _none(visual: VisualText) -> tuple[str, str]:
  return "", ""


def _fila(visual: VisualText) -> tuple[str, str]:
  times = ", ".join(map("{:.2f}".format, visual.group_times))
  sentence = (
    f" This video samples {len(visual.group_times)} frames of a {visual.duration:.2f}-second video "
    f"at {times} seconds."
  )
  return "", sentence


def _llava(visual: VisualText) -> tuple[str, str]:
  times = ",".join(map("{:.2f}s".format, visual.times))
  sentence = (
    f"\nThe video lasts for {visual.duration:.2f} seconds, and {len(visual.times)} frames are "
    f"uniformly sampled from it. These frames are located at {times}.Please answer the following "
    "questions related to this video."
  )
  return sentence, ""


def _vcf(visual: VisualText) -> tuple[str, str]:
  sentence = (
    f"\nThe video lasts for {visual.duration:.2f} seconds, and {len(visual.times)} frames are "
    "uniformly sampled from it. "
  )
  return sentence, ""


# name -> f(video) -> (text right after the visual, text at the end of the turn that shows it).
# fila: FiLA-Video App. D, of groups. llava: LLaVA-Video's time instruction, of frames. vcf:
# VideoChat-Flash's, as in training; vcf_released: as its released inference joins it.
TIME_PROMPTS: dict[str, Callable[[VisualText], tuple[str, str]]] = {
  "none": _none,
  "fila": _fila,
  "llava": _llava,
  "vcf": _vcf,
  "vcf_released": _vcf,
}
JOINED = ("vcf_released",)  # Without a newline between the sentence and the question.
SEPARATED = ("llava",)  # Always with a newline, after the only visual of a turn.


def timed(
  parts: tuple[str | int, ...], time_prompt: str, visuals: Sequence[VisualText]
) -> tuple[str | int, ...]:
  """Inserts the sentences about the videos' times into a turn."""
  if time_prompt == "none":
    return parts
  visual_count = sum(not isinstance(part, str) for part in parts)
  alone = visual_count == 1
  out = []
  ends = ""
  follows = False  # Whether the previous part is a sentence.
  for part in parts:
    if follows and isinstance(part, str):
      part = _after_sentence(part, time_prompt, alone)
      follows = False
    out.append(part)
    if not isinstance(part, str) and len(visuals[part].group_times):
      after, end = TIME_PROMPTS[time_prompt](visuals[part])
      out.append(after)
      ends += end
      follows = True
  return (*out, ends)


def _after_sentence(text: str, time_prompt: str, alone: bool) -> str:
  """The text after a time sentence, with the prompt's newline."""
  if time_prompt in JOINED:
    return text.removeprefix("\n")
  if time_prompt in SEPARATED and alone and text and not text.startswith("\n"):
    return "\n" + text
  return text
