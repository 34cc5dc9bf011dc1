# SPDX-License-Identifier: Apache-2.0
"""Threads for several devices on one CPU."""

import os

import pytest

from filax import virtual_devices

EIGHT = "--xla_force_host_platform_device_count=8"


@pytest.fixture
def given(monkeypatch):
  """NPROC after `import filax`, by the environment."""

  def give(**environment: str) -> str | None:
    for name in ("NPROC", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
      monkeypatch.setenv(name, "")  # So that it is restored, also if it was not set.
      monkeypatch.delenv(name)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    virtual_devices.give_threads()
    return os.environ.get("NPROC")

  return give


@pytest.mark.parametrize(
  "environment", [dict(XLA_FLAGS=f"--xla_a=1 {EIGHT}"), dict(JAX_NUM_CPU_DEVICES="8")]
)
def test_every_device_gets_several_threads(given, environment):
  assert int(given(**environment)) == max(32, os.cpu_count())


@pytest.mark.parametrize("flags", ["", "--xla_a=8", "--xla_force_host_platform_device_count=1"])
def test_one_device_needs_none(given, flags):
  assert given(XLA_FLAGS=flags) is None


def test_what_the_user_set_stays(given):
  assert given(XLA_FLAGS=EIGHT, NPROC="5") == "5"
