# SPDX-License-Identifier: Apache-2.0
"""Visual tokens of media, and the visual tables of prompts."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from data_pipelines.text import templates


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


def stacked_tables(tables: Sequence[Float[Array, "_ D"]]) -> Float[Array, "B M D"]:
  """The tables of several prompts in one array, padded with zeros."""
  longest = max(len(table) for table in tables)
  padded = []
  for table in tables:
    missing = longest - len(table)
    padded.append(jnp.pad(table, ((0, missing), (0, 0))))
  return jnp.stack(padded)
