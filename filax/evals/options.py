# SPDX-License-Identifier: Apache-2.0
"""How the questions of an evaluation are asked: the options of `filax.evaluate`."""

import dataclasses

import jax

from filax.evals.reading import AHEAD
from filax.infer.loaded import LoadedModel

Share = tuple[int, int]  # (k, n): the k-th of n processes that share the questions, from 0.
ALONE: Share = (0, 1)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
  """The options of `evaluate` that all its benchmarks have in common.

  Raises ValueError for a count that asks nothing.
  """

  data: str = ""  # Folder of the benchmarks' files.
  protocol: str = ""  # "" = the model family's.
  root: str = ""  # Folder of the media.
  allow_missing: bool = False
  selector: str | None = None
  frames: int | None = None
  blind: bool = False
  limit: int | None = None
  batch: int = 32
  threads: int = 2
  ahead: int = AHEAD  # Sets of media read in advance; 0 reads when they are needed.
  max_new_tokens: int | None = None
  progress: bool = True
  process: Share | None = None  # None: by jax.distributed.
  frame_cache: str = ""  # A folder for decoded frames; "" = none.

  def __post_init__(self):
    for name in ("limit", "batch", "threads"):
      count = getattr(self, name)
      if count is not None and count < 1:
        raise ValueError(f"{name}={count} asks nothing. Set --{name} to 1 or more.")
    if self.process is not None:
      check_share(self.process)


def check_share(share: Share) -> None:
  """Raises ValueError unless k is in 0..n-1."""
  number, count = share
  if not 0 <= number < count:
    raise ValueError(
      f"--process={number}/{count} is not a part of the questions. Set it to 0/{count} … "
      f"{count - 1}/{count}."
    )


def share_of(loaded: LoadedModel, process: Share | None) -> Share:
  """The part of the questions that this process asks.

  Processes that run one model on a common mesh ask all questions together.
  """
  if process is not None:
    return process
  mesh = loaded.processor.mesh
  if mesh is not None and mesh.is_multi_process:
    return ALONE
  return jax.process_index(), jax.process_count()
