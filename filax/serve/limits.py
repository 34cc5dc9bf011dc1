# SPDX-License-Identifier: Apache-2.0
"""The limits of the server."""

from collections.abc import Sequence
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class ServingLimits:
  """Bounds on requests; an error names the bound that was passed."""

  body_bytes: int = 64 << 20  # Of one HTTP request, data URLs included.
  bodies_bytes: int = 1 << 30  # Of all requests that are being answered.
  file_bytes: int = 1 << 30  # Of one file that is uploaded or fetched.
  body_seconds: float = 60.0  # Without a byte of a request's body.
  head_seconds: float = 30.0  # To send the head of a request.
  connections: int = 1000  # That are open at a time.
  media: int = 16  # Videos and pictures of a request.
  video_seconds: float = 4 * 3600.0
  frames: int = 4096  # Read of one video.
  pixels: int = 24_000_000  # Of one picture or frame.
  decode_seconds: float = 120.0  # To read the media of a request.
  answer_tokens: int = 4096  # max_new_tokens
  answers: int = 8  # Of one request, n.
  prompt_characters: int = 400_000
  waiting: int = 256  # Requests that wait or are answered.
  waiting_seconds: float = 120.0  # For a free place.
  batch: int = 32  # Answers decoded together.
  variants: int = 16  # Different pairs of selector and dropout.
  kv_bytes: int = 8 << 30  # Keys and values of the answers that are decoded together.
  cache_bytes: int = 1 << 30  # Visual tokens kept for further questions.
  upload_bytes: int = 4 << 30  # All uploaded files together.
  upload_seconds: float = 24 * 3600.0  # How long an uploaded file is kept.
  fetch_seconds: float = 30.0  # To fetch one URL.
  live_sessions: int = 4  # At a time; each has a cache of its own.
  live_frames: int = 256  # Of one request to a live session.
  live_tokens: int = 8192  # Visual tokens that a live session holds.
  live_seconds: float = 900.0  # Of a live session after its last use.


def with_changes(limits: ServingLimits, changes: Sequence[str]) -> ServingLimits:
  """Limits with changes such as "frames=512".

  Raises ValueError for an unknown name, or a value that is not above 0.
  """
  names = [field.name for field in dataclasses.fields(limits)]
  for change in changes:
    name, _, text = change.partition("=")
    if name not in names:
      raise ValueError(f"--limit {change}: there is no limit {name!r}, only {', '.join(names)}.")
    kind = type(getattr(limits, name))
    try:
      value = kind(text)
    except ValueError:
      value = 0
    if not 0 < value < math.inf:
      words = "a whole number" if kind is int else "a number"
      raise ValueError(f"--limit {change}: set {name} to {words} above 0.")
    limits = dataclasses.replace(limits, **{name: value})
  return limits
