# SPDX-License-Identifier: Apache-2.0
"""The memory of devices, from tables, from what they state, or from the host."""

from types import SimpleNamespace

import jax
import pytest

from filax import host_limits
from filax.train import chips


def device(kind, platform="tpu", **statistics):
  return SimpleNamespace(
    device_kind=kind, platform=platform, process_index=0, memory_stats=lambda: statistics
  )


@pytest.mark.parametrize(
  "kind, chip",
  [("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e")],
)
def test_tpus_are_in_a_table(kind, chip):
  assert chips.usable_bytes([device(kind)]) == chips.CHIPS[chip].hbm


def test_a_gpu_states_its_limit():
  h100 = device("NVIDIA H100 80GB HBM3", "cuda", bytes_limit=60 * chips.GIB)
  assert chips.usable_bytes([h100]) == 60 * chips.GIB


def test_a_device_that_says_nothing_has_a_default():
  assert chips.usable_bytes([device("a card", "rocm")]) == chips.UNKNOWN_BYTES


def test_the_devices_of_a_cpu_share_half_of_the_host():
  alone = chips.usable_bytes(jax.devices()[:1])
  assert alone == host_limits.usable_memory() / 2
  assert chips.usable_bytes(jax.devices()) == pytest.approx(alone / len(jax.devices()))
