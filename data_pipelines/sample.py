# SPDX-License-Identifier: Apache-2.0
"""A sample, before any pixel is read: turns of text, and timelines of media."""

import dataclasses

IMAGE = "<image>"  # Where a human turn of a manifest shows its next image or video.
VIDEO = "<video>"  # Where it shows its next video.


@dataclasses.dataclass(frozen=True)
class Scene:
  """A stretch of one media file, placed on a timeline. Times are seconds.

  kind "video": seconds t0..t1 of a file (t1 None: to its end). "still": one picture shown from
  `at` for t1 - t0 seconds inside a video. "image": a picture of its own, in the image lane.
  """

  media: str  # A path, a folder of frames, or "file.array_record#key".
  kind: str = "video"
  t0: float = 0.0
  t1: float | None = None
  at: float = 0.0  # Where the scene begins on the timeline.


Timeline = tuple[Scene, ...]  # An ordinary file is a timeline of one scene.


@dataclasses.dataclass(frozen=True)
class Turn:
  """One turn. `parts` alternates text and media: a str is ordinary text, an int n shows the
  sample's n-th timeline. What reads like a control token in a str is ordinary text."""

  role: str  # system | user | assistant
  parts: tuple[str | int, ...]

  @property
  def text(self) -> str:
    return "".join(p for p in self.parts if isinstance(p, str))


@dataclasses.dataclass(frozen=True)
class Sample:
  """One conversation about zero or more timelines; each is shown once, in order."""

  id: str
  turns: tuple[Turn, ...]
  media: tuple[Timeline, ...] = ()
  origin: str = ""  # "manifest.json:12", for messages.
  kind: str = ""  # The question's kind, for scores by kind.
