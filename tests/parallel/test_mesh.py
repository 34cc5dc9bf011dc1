# SPDX-License-Identifier: Apache-2.0
"""Mesh sizes: the axis -1 takes the remaining devices; invalid sizes name the knob."""

import subprocess
import sys

import jax
import pytest

from filax.parallel import mesh


@pytest.mark.parametrize(
  "sizes, devices, expected",
  [
    (dict(data=1, fsdp=-1, seq=1, tensor=1), 8, (1, 8, 1, 1)),
    (dict(data=2, fsdp=-1, seq=2, tensor=1), 8, (2, 2, 2, 1)),
    (dict(tensor=4, data=-1), 8, (2, 1, 1, 4)),
    (dict(), 1, (1, 1, 1, 1)),
  ],
)
def test_sizes_are_resolved(sizes, devices, expected):
  assert tuple(mesh.resolve_sizes(sizes, devices).values()) == expected


def test_the_axes_are_always_the_same():
  every_device = mesh.make_mesh(dict(fsdp=-1))
  assert every_device.axis_names == ("data", "fsdp", "seq", "tensor")
  assert every_device.shape["fsdp"] == len(jax.devices())


def test_a_mesh_takes_the_devices_it_is_given():
  assert mesh.make_mesh(dict(fsdp=-1), jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
  "sizes, devices, message",
  [
    (dict(model=2), 2, "config.mesh.model is not an axis. The axes are data, fsdp, seq, tensor"),
    (dict(data=3, fsdp=-1), 8, "needs a multiple of 3 devices, but there are 8"),
    (dict(data=2), 8, "sizes whose product is 8"),
    (dict(data=-1, fsdp=-1), 8, "at most one of them -1"),
    (dict(data=0), 8, "must hold positive sizes"),
  ],
)
def test_invalid_sizes_name_the_knob(sizes, devices, message):
  with pytest.raises(ValueError, match=message) as error:
    mesh.resolve_sizes(sizes, devices)
  assert "config.mesh" in str(error.value)


FORKED = """
import multiprocessing
from filax.parallel import mesh

@mesh.without_mesh()
def work(number):
  return number

if __name__ == "__main__":
  fork = multiprocessing.get_context("fork")
  with fork.Pool(1) as pool:
    print(pool.map(work, [1]))
  print(work(2))
  with fork.Pool(1) as pool:
    pool.map(work, [3])
"""


def test_a_fork_of_a_process_that_uses_the_devices_is_refused():
  """It would hang."""
  done = subprocess.run(
    [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False
  )
  assert done.stdout.split() == ["[1]", "2"]
  assert "RuntimeError: This process is a fork of one that uses JAX" in done.stderr
