# SPDX-License-Identifier: Apache-2.0
"""Wordings of long videos: questions, caption lines and openers."""

import re

VERSION = 1  # Raise it with any change here: it is part of a recipe.

CAPTIONS = ("seconds", "clock", "plain")  # How the times of a scene are written.
OPENERS = ("keep", "scene")

# They end like sentences, because a composer appends its sentence on the sampled frames.
TIMED_QUESTIONS = (
  "Describe the video scene by scene, with the times of each scene.",
  "What happens in the video? Go through it in order and give the time span of every scene.",
  "Write a detailed description of this video, with the beginning and the end of each scene.",
  "Give a dense caption of the whole video: one line for each scene, with its times.",
  "Can you describe every scene of this video in detail, together with when it is shown?",
  "List the scenes of the video in the order in which they appear, with times and descriptions.",
  "Divide the video into its scenes and describe in detail what each of them shows, and when.",
  "Tell in detail what can be seen from the first scene to the last, and note the times.",
)
PLAIN_QUESTIONS = (
  "Describe the video scene by scene.",
  "What happens in the video? Go through it in order.",
  "Write a detailed description of this video.",
  "Give a dense caption of the whole video: one line for each scene.",
  "Can you describe every scene of this video in detail?",
  "List the scenes of the video in the order in which they appear, with descriptions.",
  "Divide the video into its scenes and describe in detail what each of them shows.",
  "Tell in detail what can be seen from the first scene to the last.",
)

# A clip's caption speaks of "the video", which is false in the middle of a longer one.
_VERBS = (
  "begins|opens|starts|commences|continues|proceeds|progresses|transitions|then|concludes|ends|"
  "closes|finishes"
)
_OTHER_NAMES = "game|games|camera|call|player|screen|tape|link|conference|feed|wall|editing"
_OPENER_RULES = (
  (re.compile(rf"\b(T|t)h(?:e|is) video (?={_VERBS})"), r"\1his scene "),
  (
    re.compile(
      r"\b((?:[Ii]n|[Tt]hroughout|[Dd]uring|(?:beginning|start|middle|end) of)) "
      rf"th(?:e|is) video\b(?! (?:{_OTHER_NAMES})\b)"
    ),
    r"\1 this scene",
  ),
)
_REFUSAL = re.compile(
  r"(?:I.?m|I am) sorry\b|I apologi[sz]e\b|Sorry,|Unfortunately, I\b|As an AI\b|"
  r"I(?:.m| am)? (?:cannot|can.t|can not|unable to|not able to)\b|(?:Error|ERROR)\b|"
  r"\[?(?:null|None|N/A)\]?$"
)


def is_refusal(caption: str) -> bool:
  """Whether a caption is a captioner's apology or error instead."""
  return _REFUSAL.match(caption) is not None


def name_scenes(caption: str) -> str:
  """A clip's caption that speaks of "this scene", not "the video"."""
  for pattern, replacement in _OPENER_RULES:
    caption = pattern.sub(replacement, caption)
  return caption


def scene_line(form: str, start: int, end: int, text: str) -> str:
  """The line of a scene from `start` to `end` seconds.

  form: one of CAPTIONS. scene_line("seconds", 0, 41, "A man runs.") is
  "0 - 41 seconds: A man runs."
  """
  if form == "seconds":
    return f"{start} - {end} seconds: {text}"
  if form == "clock":
    return f"[{_clock(start)} - {_clock(end)}] {text}"
  return text


def _clock(seconds: int) -> str:
  """Minutes and seconds, with hours from an hour on."""
  minutes, rest = divmod(seconds, 60)
  hours, minutes_of_hour = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes_of_hour:02d}:{rest:02d}"
  return f"{minutes:02d}:{rest:02d}"
