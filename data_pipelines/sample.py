# SPDX-License-Identifier: Apache-2.0
"""A sample before pixels are read: turns and timelines of media."""

import dataclasses

IMAGE = "<image>"  # Placeholder of the next image or video in a human turn of a manifest.
VIDEO = "<video>"  # Placeholder of the next video.


@dataclasses.dataclass(frozen=True)
class Scene:
  """A stretch of one media file on a timeline, in seconds.

  kind "video": seconds t0..t1 of a file (t1 None: to its end). "still": one picture shown from
  `at` for t1 - t0 seconds inside a video. "image": a separate picture, in the image lane; with t1,
  the frame of a video at t0 (in evaluations only).
  """

  media: str  # A path, a folder of frames, or "file.array_record#key".
  kind: str = "video"
  t0: float = 0.0
  t1: float | None = None
  at: float = 0.0  # Where the scene begins on the timeline.


Timeline = tuple[Scene, ...]  # An ordinary file is a timeline of one scene.


@dataclasses.dataclass(frozen=True)
class Turn:
  """One turn of a conversation.

  `parts` alternates text and media: a str is ordinary text (control tokens are not interpreted in
  it), an int n shows the sample's n-th timeline.
  """

  role: str  # system | user | assistant
  parts: tuple[str | int, ...]

  @property
  def text(self) -> str:
    """The text of the turn, without its media."""
    return "".join(part for part in self.parts if isinstance(part, str))


@dataclasses.dataclass(frozen=True)
class Sample:
  """One conversation about any number of timelines, shown in order."""

  id: str
  turns: tuple[Turn, ...]
  media: tuple[Timeline, ...] = ()
  origin: str = ""  # "manifest.json:12", for messages.
  kind: str = ""  # The question's kind, for scores by kind.
