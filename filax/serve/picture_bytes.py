# SPDX-License-Identifier: Apache-2.0
"""A picture of a request, from its bytes."""

import dataclasses

import numpy as np

from data_pipelines.media import pictures
from data_pipelines.media.open import LIMITS, SlowMediaError
from filax.serve.limits import ServingLimits
from filax.serve.requests import RequestError


def read_frame(
  content: bytes, label: str, size: int, resize: str, limits: ServingLimits
) -> np.ndarray:
  """A picture as uint8 [size size 3], resized as `pictures.fit` does.

  Raises RequestError that names it by `label`.
  """
  bounds = dataclasses.replace(LIMITS, image_pixels=limits.pixels)
  try:
    return pictures.read_image(content, size, resize=resize, limits=bounds)
  except (TimeoutError, SlowMediaError) as error:
    text = f"{label}: reading it takes too long (decode_seconds)."
    raise RequestError(text, status=504, code="decode_timeout") from error
  except ValueError as error:
    raise RequestError(f"{label}: {error}", code="invalid_media") from error
  except OSError as error:
    raise RequestError(f"{label}: It cannot be read.", code="invalid_media") from error
