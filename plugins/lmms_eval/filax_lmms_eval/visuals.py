# SPDX-License-Identifier: Apache-2.0
"""What a task's doc_to_visual returns, as the media of a request."""

from collections.abc import Iterator
import os
from typing import Any

from PIL import Image


def request_media(visuals: Any, folder: str) -> list[dict[str, Any]]:
  """The media of a request.

  visuals: paths, a path followed by a dict with its start and end in seconds, pictures of Pillow,
  or lists of these. Pictures are written to `folder`. Raises ValueError for anything else.
  """
  media: list[dict[str, Any]] = []
  for visual in _flat(visuals):
    if isinstance(visual, str | os.PathLike):
      media.append(dict(path=os.path.abspath(visual)))
    elif isinstance(visual, dict) and media and _is_clip(visual):
      media[-1].update(_bounds(visual))
    elif isinstance(visual, Image.Image):
      media.append(dict(path=_write_picture(visual, folder)))
    else:
      raise ValueError(
        f"A visual of type {type(visual).__name__} cannot be shown: FiLax reads paths of videos "
        "and pictures, a path with its start and end, and pictures of Pillow."
      )
  return media


def _flat(visuals: Any) -> Iterator[Any]:
  """The visuals of nested lists, in order; None is none."""
  if visuals is None:
    return
  if isinstance(visuals, list | tuple):
    for visual in visuals:
      yield from _flat(visual)
  else:
    yield visuals


def _is_clip(visual: dict[str, Any]) -> bool:
  return bool(visual.keys() & {"start", "end", "video_read_type"})


def _bounds(clip: dict[str, Any]) -> dict[str, float]:
  """start and end, as far as they are set."""
  bounds = {}
  for name in ("start", "end"):
    if clip.get(name) is not None:
      bounds[name] = float(clip[name])
  return bounds


def _write_picture(picture: Image.Image, folder: str) -> str:
  """Writes a picture without loss; returns its path."""
  if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
    picture = picture.convert("RGB")
  path = os.path.join(folder, f"{len(os.listdir(folder)):06}.png")
  picture.save(path)
  return path
