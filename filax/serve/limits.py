# SPDX-License-Identifier: Apache-2.0
"""What one client may ask of the server."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ServingLimits:
  """Bounds on requests; an error names the bound that was passed."""

  body_bytes: int = 256 << 20  # Of one HTTP request, data URLs and uploads included.
  media: int = 16  # Videos and pictures of a request.
  video_seconds: float = 4 * 3600.0
  frames: int = 4096  # Read of one video.
  pixels: int = 24_000_000  # Of one picture or frame.
  decode_seconds: float = 120.0  # To read one medium.
  answer_tokens: int = 4096  # max_new_tokens
  answers: int = 8  # n
  prompt_characters: int = 400_000
  waiting: int = 256  # Requests in the queue.
  waiting_seconds: float = 120.0
  batch: int = 32  # Answers decoded together.
  cache_bytes: int = 1 << 30  # Visual tokens kept for further questions.
  upload_bytes: int = 4 << 30  # All uploaded files together.
  upload_seconds: float = 24 * 3600.0  # How long an uploaded file is kept.
  fetch_seconds: float = 30.0  # To fetch one URL.
