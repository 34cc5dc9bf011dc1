# SPDX-License-Identifier: Apache-2.0
"""Media on which all processes of a mesh agree.

Every process reads the media itself and runs the same programs. If one of them cannot read a
medium, or reads it differently, all of them skip it. Otherwise one process would skip a program
that the others run, and they would wait for it. For the same reason, they stop together.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import json
import zlib

import jax
import numpy as np

from data_pipelines.media.open import MediaError
from filax.evals.reading import DecodedMedium, LongVideo, ReadGroup, ReadMedium
from filax.infer.video import DecodedVideo
from filax.parallel import preemption


def agreed_groups(
  groups: Iterable[ReadGroup], mesh: jax.sharding.Mesh | None
) -> Iterator[ReadGroup]:
  """Yields questions with their media, the same ones readable on all processes.

  mesh: that of the parameters. On devices of this process alone, or without a mesh, nothing is
  exchanged. Raises Interrupted on all processes if one of them was asked to stop.
  """
  if mesh is None or not mesh.is_multi_process:
    yield from groups
    return
  for group in groups:
    yield dataclasses.replace(group, media=agree_on_media(group.media))


def agree_on_media(media: Sequence[ReadMedium]) -> list[ReadMedium]:
  """The media, or the error of a process that reads them otherwise."""
  facts = json.dumps([_medium_fact(medium) for medium in media])
  by_process = list(map(json.loads, preemption.share_texts_or_stop(facts)))
  agreed: list[ReadMedium] = []
  for number, medium in enumerate(media):
    error = _disagreement([facts[number] for facts in by_process])
    if error and not isinstance(medium, ValueError):
      medium = MediaError(error)
    agreed.append(medium)
  return agreed


def _medium_fact(medium: ReadMedium) -> list[str]:
  """[digest of what was read, error]."""
  if isinstance(medium, ValueError):
    return ["", str(medium)]
  return [_pixel_digest(medium), ""]


def _pixel_digest(medium: DecodedMedium) -> str:
  if isinstance(medium, LongVideo):  # Not read yet.
    return repr([(scene.t0, scene.t1, scene.at) for scene in medium.timeline])
  if isinstance(medium, DecodedVideo):
    arrays = [medium.frames, np.asarray(medium.times)]
  else:
    arrays = [medium[0]]
  digest = 0
  for array in arrays:
    digest = zlib.crc32(np.ascontiguousarray(array).data, digest)
  return f"{digest:08x}"


def _disagreement(facts: Sequence[Sequence[str]]) -> str:
  """Why a medium is bad for all; "" if it is good."""
  for process, (_, error) in enumerate(facts):
    if error:
      return f"Process {process} cannot read it: {error}"
  for process, (digest, _) in enumerate(facts):
    if digest != facts[0][0]:
      return f"Process {process} reads other pictures than process 0: give both the same file."
  return ""
