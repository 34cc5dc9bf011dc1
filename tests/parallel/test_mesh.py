# SPDX-License-Identifier: Apache-2.0
"""Mesh sizes: what is left goes to the axis -1; what cannot be says so."""

import jax
import pytest

from filax.parallel import mesh


@pytest.mark.parametrize(
  "given, devices, want",
  [
    (dict(data=1, fsdp=-1, seq=1, tensor=1), 8, (1, 8, 1, 1)),
    (dict(data=2, fsdp=-1, seq=2, tensor=1), 8, (2, 2, 2, 1)),
    (dict(tensor=4, data=-1), 8, (2, 1, 1, 4)),
    (dict(), 1, (1, 1, 1, 1)),
  ],
)
def test_sizes_are_resolved(given, devices, want):
  assert tuple(mesh.resolve_sizes(given, devices).values()) == want


def test_the_axes_are_always_the_same():
  made = mesh.make_mesh(dict(fsdp=-1))
  assert made.axis_names == ("data", "fsdp", "seq", "tensor")
  assert made.shape["fsdp"] == len(jax.devices())
  assert mesh.make_mesh(dict(fsdp=-1), jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
  "given, devices, message",
  [
    (dict(model=2), 2, "config.mesh.model is not an axis. The axes are data, fsdp, seq, tensor"),
    (dict(data=3, fsdp=-1), 8, "needs 3 devices times a whole number, but there are 8"),
    (dict(data=2), 8, "sizes whose product is 8"),
    (dict(data=-1, fsdp=-1), 8, "at most one of them -1"),
    (dict(data=0), 8, "must hold positive sizes"),
  ],
)
def test_what_cannot_be_names_the_knob(given, devices, message):
  with pytest.raises(ValueError, match=message) as error:
    mesh.resolve_sizes(given, devices)
  assert "config.mesh" in str(error.value)
