# SPDX-License-Identifier: Apache-2.0
"""A sample before its media are decoded: turns of text, and timelines of media."""

import dataclasses

IMAGE = "<image>"  # Placeholder of the next image or video in a human turn of a manifest.
VIDEO = "<video>"  # Placeholder of the next video.


@dataclasses.dataclass(frozen=True)
class Scene:
  """A part of a media file on a timeline, in seconds.

  The kinds of scenes:

    video  seconds t0 to t1 of a file; t1 None means to its end
    still  one picture, shown inside a video for t1 - t0 seconds
    image  a separate picture, not part of a video; with t1, the frame of a video at t0 (only in
           evaluations)
  """

  media: str  # A path, a folder of frames, or "file.array_record#key".
  kind: str = "video"
  t0: float = 0.0
  t1: float | None = None
  at: float = 0.0  # When the scene begins on the timeline.


Timeline = tuple[Scene, ...]  # An ordinary file is a timeline of one scene.


@dataclasses.dataclass(frozen=True)
class Turn:
  """One turn of a conversation.

  `parts` are text and media in order. A str is ordinary text, in which control tokens have no
  meaning. An int n shows the sample's n-th timeline.
  """

  role: str  # system | user | assistant
  parts: tuple[str | int, ...]

  @property
  def text(self) -> str:
    """The text of the turn, without its media."""
    return "".join(part for part in self.parts if isinstance(part, str))


@dataclasses.dataclass(frozen=True)
class Sample:
  """One conversation about any number of timelines, which are shown in order."""

  id: str
  turns: tuple[Turn, ...]
  media: tuple[Timeline, ...] = ()
  origin: str = ""  # Where it comes from, such as "manifest.json:12", for messages.
  kind: str = ""  # The kind of question, so that scores can be reported by kind.
