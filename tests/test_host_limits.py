# SPDX-License-Identifier: Apache-2.0
"""CPUs and memory that this process may use, in and outside control groups."""

import os

import pytest

from filax import host_limits

GIB = 2**30
# Version 2: a container that sees its own group as the topmost one, and a group inside others.
TOPMOST = ("0::/\n", {"cpu.max": "250000 100000\n", "memory.max": f"{3 * GIB}\n"})
NESTED = (
  "0::/pods/one\n",
  {
    "pods/one/cpu.max": "max 100000\n",
    "pods/one/memory.max": "max\n",
    "pods/cpu.max": "300000 100000\n",
    "pods/memory.max": f"{3 * GIB}\n",
  },
)
# The path of the group outside the container, which does not exist inside.
OUTSIDE = ("0::/kubepods/burstable/pod7\n", TOPMOST[1])
VERSION_1 = (
  "4:cpu,cpuacct:/docker/7\n3:memory:/docker/7\n1:name=systemd:/\n",
  {
    "cpu/docker/7/cpu.cfs_quota_us": "250000\n",
    "cpu/docker/7/cpu.cfs_period_us": "100000\n",
    "memory/docker/7/memory.limit_in_bytes": f"{3 * GIB}\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
  },
)
UNLIMITED = (
  "4:cpu:/\n3:memory:/\n",
  {
    "cpu/cpu.cfs_quota_us": "-1\n",
    "cpu/cpu.cfs_period_us": "100000\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
  },
)


def lay_out(monkeypatch, folder, membership, groups):
  """A host of 16 CPUs and 64 GiB with these control groups."""
  (folder / "cgroup").write_text(membership)
  for name, text in groups.items():
    path = folder / "groups" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  monkeypatch.setattr(host_limits, "_MEMBERSHIP", folder / "cgroup")
  monkeypatch.setattr(host_limits, "_GROUPS", folder / "groups")
  monkeypatch.setattr(host_limits, "affinity_cpus", lambda: 16)
  monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.__getitem__)


@pytest.mark.parametrize(
  "groups", [TOPMOST, NESTED, OUTSIDE, VERSION_1], ids=["topmost", "nested", "outside", "version 1"]
)
def test_the_lowest_limit_counts(tmp_path, monkeypatch, groups):
  lay_out(monkeypatch, tmp_path, *groups)
  assert host_limits.usable_cpus() == 3
  assert host_limits.usable_memory() == 3 * GIB


@pytest.mark.parametrize(
  "groups",
  [UNLIMITED, ("", {}), ("0::/\n", {"cpu.max": "", "memory.max": "word"}), ("no lines", {})],
  ids=["unlimited", "no groups", "odd files", "odd membership"],
)
def test_without_limits_it_is_the_host(tmp_path, monkeypatch, groups):
  lay_out(monkeypatch, tmp_path, *groups)
  assert host_limits.usable_cpus() == 16
  assert host_limits.usable_memory() == 64 * GIB


def test_half_a_cpu_is_one(tmp_path, monkeypatch):
  lay_out(monkeypatch, tmp_path, "0::/\n", {"cpu.max": "50000 100000"})
  assert host_limits.usable_cpus() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_affinity_counts_at_once():
  before = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(before)})
    assert host_limits.usable_cpus() == 1
  finally:
    os.sched_setaffinity(0, before)
