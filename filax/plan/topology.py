# SPDX-License-Identifier: Apache-2.0
"""TPU slices by name, "v5p:4x4x4", and devices to compile for.

Names count chips: v5p:4x4x4 is 64 of them (Cloud's name for it, v5p-128, counts cores). Needs the
extra `tpu`, whose libtpu compiles on any Linux machine.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util
import math
import os
import re

import jax

from filax.train.chips import CHIPS, Chip


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice: the kind and number (along each axis) of its chips."""

  kind: str
  shape: tuple[int, ...]
  slices: int = 1  # Joined by the data centre's network.

  @property
  def chip(self) -> Chip:
    """Memory and speed of its chips."""
    return CHIPS[self.kind]

  @property
  def chips(self) -> int:
    """The number of its chips."""
    return math.prod(self.shape) * self.slices

  def __str__(self):
    name = f"{self.kind}:{'x'.join(map(str, self.shape))}"
    return name if self.slices == 1 else f"{self.slices}*{name}"

  def devices(self) -> Sequence[jax.Device]:
    """The devices to compile for.

    Raises ValueError without libtpu, or for a slice that it does not know.
    """
    if importlib.util.find_spec("libtpu") is None:
      raise ValueError(
        "Compiling for a TPU needs libtpu. Install it with: pip install 'filax[tpu]'."
      )
    os.environ |= {  # Read when libtpu starts: run outside the cloud, and beside other compilers.
      "TPU_SKIP_MDS_QUERY": "1",
      "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
      "TPU_WORKER_HOSTNAMES": "localhost",
      "TPU_HOST_BOUNDS": "1,1,1",
      "TPU_STDERR_LOG_LEVEL": "3",
      "TPU_MIN_LOG_LEVEL": "3",
    }
    from jax.experimental import topologies

    shape = "x".join(map(str, self.shape))
    options = dict(num_slices=self.slices) if self.slices > 1 else {}
    try:
      return topologies.get_topology_desc(
        platform="tpu", topology_name=f"{self.kind}:{shape}", **options
      ).devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
      raise ValueError(
        f"--topology={self} is not a slice that libtpu knows. Slices of {self.kind}: "
        f"{self.chip.slices}. libtpu says: {str(error).splitlines()[0][:200]}"
      ) from error


def parse_topology(name: str) -> Topology:
  """The slice of a name: "v5p:4x4x4", or "2*v5p:4x4x4" for two slices.

  Raises ValueError for an invalid name.
  """
  match = re.fullmatch(r"(?:(\d+)\*)?(\w+):(\d+(?:x\d+){1,2})", name)
  if not match or match[2] not in CHIPS:
    raise ValueError(
      f"--topology={name!r} is not understood. Write kind:chips along each axis, such as "
      f"v5p:4x4x4; kinds are {', '.join(CHIPS)}."
    )
  kind = match[2]
  shape = tuple(map(int, match[3].split("x")))
  axes = CHIPS[kind].axes
  if len(shape) != axes:
    raise ValueError(
      f"--topology={name!r}: the torus of a {kind} has {axes} axes, not {len(shape)}."
    )
  return Topology(kind, shape, int(match[1] or 1))
