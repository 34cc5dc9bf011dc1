# SPDX-License-Identifier: Apache-2.0
"""Where needle pictures come from: a folder, or the generator of cards."""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from data_pipelines.media import pictures as picture_files
from data_pipelines.media.open import LIMITS, Limits, MediaError
from data_pipelines.synthesis import needle
from filax.evals.needle.items import PICTURES_PUBLISHER, NeedleItem


@dataclasses.dataclass(frozen=True)
class PictureSource:
  """Reads needle pictures by name.

  Without folders, names are those of cards, which are drawn.
  """

  folders: tuple[str, ...] = ()  # Searched in order.
  limits: Limits = LIMITS
  resize: str = "pad"

  def read_picture(
    self,
    name: str,
    size: int,
    hint: str = "",
  ) -> np.ndarray:
    """A picture uint8 [size size 3]; `hint` is written onto it.

    Raises MediaError for a missing or damaged file.
    """
    if not self.folders:
      return needle.draw_card(needle.card_of(name), size)
    path = self._find(name)
    if not hint:
      return picture_files.read_image(
        path,
        size,
        resize=self.resize,
        limits=self.limits,
      )
    from PIL import Image

    picture = picture_files.read_image(path, limits=self.limits)
    noted = needle.draw_hint(picture, hint)
    return picture_files.fit(
      Image.fromarray(noted),
      size,
      self.resize,
    )

  def _find(self, name: str) -> str:
    for folder in self.folders:
      path = os.path.join(folder, name)
      if os.path.exists(path):
        return path
    raise MediaError(f"The picture {name} is missing in {self.folders[0]}. {PICTURES_PUBLISHER}")


def folders_of(path: str, images: str) -> tuple[str, ...]:
  """Folders in which the pictures of a needle file may lie.

  `images` alone if it is set; otherwise the file's own folder and the two above it.
  """
  if images:
    return (images,)
  folder = pathlib.Path(path).resolve().parent
  return (str(folder), str(folder.parent), str(folder.parent.parent))


def read_pictures(
  source: PictureSource, items: Iterable[NeedleItem], size: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """(name -> picture, name -> why it is unreadable) of all items."""
  pictures: dict[str, np.ndarray] = {}
  errors: dict[str, str] = {}
  for item in items:
    hints = item.hints or ("",) * len(item.pictures)
    for name, hint in zip(item.pictures, hints, strict=True):
      key = picture_key(name, hint)
      if key in pictures or name in errors:
        continue
      try:
        pictures[key] = source.read_picture(name, size, hint)
      except ValueError as error:
        errors[name] = str(error)
  return pictures, errors


def picture_key(name: str, hint: str) -> str:
  """One picture with two hints is two pictures."""
  return f"{name}\n{hint}" if hint else name


def item_keys(item: NeedleItem) -> list[str]:
  """The keys of an item's pictures, in the order of the video."""
  hints = item.hints or ("",) * len(item.pictures)
  return list(map(picture_key, item.pictures, hints))


def pictures_digest(pictures: Mapping[str, np.ndarray]) -> str:
  """sha256 of names and pixels."""
  digest = hashlib.sha256()
  for name in sorted(pictures):
    digest.update(name.encode())
    digest.update(pictures[name].tobytes())
  return digest.hexdigest()
