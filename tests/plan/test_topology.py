# SPDX-License-Identifier: Apache-2.0
import pytest

from filax.plan import topology


def test_names():
  single = topology.parse_topology("v5p:4x4x4")
  assert (single.kind, single.chips, str(single)) == ("v5p", 64, "v5p:4x4x4")
  two = topology.parse_topology("2*v5e:16x16")
  assert (two.slices, two.chips, str(two)) == (2, 512, "2*v5e:16x16")


@pytest.mark.parametrize("name", ["v5p", "v9:2x2", "v5e:16", "v5p:4x4", "v5e:4x4x4", "0v5e:2x2"])
def test_invalid_names_are_refused(name):
  with pytest.raises(ValueError, match="--topology="):
    topology.parse_topology(name)
