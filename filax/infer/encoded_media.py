# SPDX-License-Identifier: Apache-2.0
"""Visual tokens of media, and the visual tables of prompts."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float
import numpy as np

from data_pipelines.text import templates
from filax.parallel.rules import partition_spec


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedMedia:
  """The visual tokens of a video or a picture, on the device."""

  table: Any  # [M D]: visual tokens, then one newline vector.
  pattern: np.ndarray  # Order of the tokens (data_pipelines.packing.visual_order).
  text: templates.VisualText  # Length, duration and times, for the text.
  groups: np.ndarray  # int [G K]: the frames of each group, as positions in the video.

  @property
  def tokens(self) -> int:
    """Visual tokens, without the newline."""
    return self.table.shape[0] - 1


def joined_table(media: Sequence[EncodedMedia]) -> Float[Array, "M D"]:
  """The visual table of a prompt: all tokens, then one newline."""
  *others, last = media
  if not others:
    return last.table
  tables = [medium.table[:-1] for medium in others]
  return jnp.concatenate([*tables, last.table])


def waiting_table(
  table: Float[Array, "M D"], mesh: jax.sharding.Mesh | None
) -> Float[Array, "M D"] | np.ndarray:
  """A table that waits for the other prompts of its batch.

  On the host if the mesh divides a batch: every device would hold the tables of all prompts.
  """
  return np.asarray(table) if _batch_parts(mesh) > 1 else table


def stacked_tables(
  tables: Sequence[Float[Array, "_ D"] | np.ndarray], mesh: jax.sharding.Mesh | None = None
) -> Float[Array, "B M D"]:
  """The tables of several prompts in one array, padded with zeros.

  If the mesh divides the batch, each device holds those of its prompts.
  """
  longest = max(len(table) for table in tables)
  if mesh is not None and _batch_parts(mesh) > 1 and len(tables) % _batch_parts(mesh) == 0:
    return _tables_by_row(list(map(np.asarray, tables)), longest, mesh)
  padded = []
  for table in tables:
    missing = longest - len(table)
    padded.append(jnp.pad(table, ((0, missing), (0, 0))))
  return jnp.stack(padded)


def _tables_by_row(
  tables: Sequence[np.ndarray], longest: int, mesh: jax.sharding.Mesh
) -> Float[Array, "B M D"]:
  shape = (len(tables), longest, tables[0].shape[1])
  stacked = np.zeros(shape, tables[0].dtype)
  for row, table in zip(stacked, tables, strict=True):
    row[: len(table)] = table
  sharding = NamedSharding(mesh, partition_spec("batch"))
  return jax.make_array_from_callback(shape, sharding, stacked.__getitem__)


def _batch_parts(mesh: jax.sharding.Mesh | None) -> int:
  """The parts into which a mesh divides the rows of a batch."""
  return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]
