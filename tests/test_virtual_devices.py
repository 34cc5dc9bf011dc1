# SPDX-License-Identifier: Apache-2.0
"""Threads for several devices on one CPU."""

import os

import pytest

from filax.cli import virtual_devices

EIGHT = "--xla_force_host_platform_device_count=8"


def given(**environment: str) -> str | None:
  """NPROC after the threads were given."""
  virtual_devices.give_threads(environment)
  return environment.get("NPROC")


def test_every_device_gets_several_threads():
  assert int(given(XLA_FLAGS=f"--xla_a=1 {EIGHT}")) == max(32, os.cpu_count())


@pytest.mark.parametrize("flags", ["", "--xla_a=8", "--xla_force_host_platform_device_count=1"])
def test_one_device_needs_none(flags):
  assert given(XLA_FLAGS=flags) is None


def test_what_the_user_set_stays():
  assert given(XLA_FLAGS=EIGHT, NPROC="5") == "5"
