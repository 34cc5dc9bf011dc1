# SPDX-License-Identifier: Apache-2.0
"""Bytes read from compiled programs whose collectives are known."""

from functools import partial

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import pytest

from filax.parallel import mesh
from filax.plan import collectives

SIZES = dict(data=1, fsdp=2, seq=4, tensor=1)
LOOPS = 5
ROWS = 32
WIDTH = 64
BYTES = ROWS * WIDTH * 4  # Of the whole float32 array.
SEQ = P("seq")


def moved(body, out=SEQ):
  """The collectives of `body` under shard_map, over an array [ROWS WIDTH] spread over seq."""
  layout = mesh.make_mesh(SIZES)
  with jax.set_mesh(layout):
    run = jax.jit(jax.shard_map(body, in_specs=SEQ, out_specs=out, check_vma=False))
    x = jax.device_put(jnp.ones((ROWS, WIDTH)), jax.NamedSharding(layout, P("seq")))
    text = run.lower(x).compile().as_text()
  return collectives.totals(collectives.read_collectives(text, SIZES))


def looped(step):
  """`step` in a loop that the compiler cannot unroll into one."""

  def body(x):
    return lax.scan(lambda x, _: (jnp.sin(step(x)), None), x, None, length=LOOPS)[0]

  return body


def test_a_gather_in_a_loop_counts_as_often_as_it_runs():

  def gathered(x):
    return lax.all_gather(x, "seq", axis=0, tiled=True)[: ROWS // 4] * 2.0

  assert moved(looped(gathered)) == {"seq": {"all-gather": LOOPS * BYTES * 3 / 4}}


def test_a_sum_is_sent_and_received():
  """Ring all-reduce of a quarter of the array each: 2 (n-1)/n of it."""
  assert moved(looped(lambda x: lax.psum(x, "seq"))) == {
    "seq": {"all-reduce": LOOPS * BYTES / 4 * 2 * 3 / 4}
  }


def test_a_scatter_sends_what_it_does_not_keep():
  scattered = partial(lax.psum_scatter, axis_name="seq", scatter_dimension=0, tiled=True)
  assert moved(scattered) == {"seq": {"reduce-scatter": BYTES / 4 * 3 / 4}}


def test_a_sum_of_which_a_fusion_keeps_a_part_is_a_scatter():
  """So the compiler for TPUs writes most of them."""
  text = """
%all-reduce-scatter.1 (input: bf16[64,8]) -> bf16[16,8] {
  %input = bf16[64,8]{1,0} parameter(0)
  %sum = bf16[64,8]{1,0} all-reduce(%input), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %part = bf16[16,8]{1,0} dynamic-slice(%sum), dynamic_slice_sizes={16,8}
}

ENTRY %main (x: bf16[64,8]) -> bf16[16,8] {
  %x = bf16[64,8]{1,0} parameter(0)
  ROOT %out = bf16[16,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
  sums = collectives.totals(collectives.read_collectives(text, SIZES))
  assert sums == {"seq": {"reduce-scatter": 64 * 8 * 2 * 3 / 4}}


def test_a_permutation_moves_the_whole_part():
  neighbours = [(0, 1), (1, 2), (2, 3), (3, 0)]
  permuted = partial(lax.ppermute, axis_name="seq", perm=neighbours)
  assert moved(looped(permuted)) == {"seq": {"collective-permute": LOOPS * BYTES / 4}}


def test_an_all_to_all_keeps_its_own_share():
  traded = partial(lax.all_to_all, axis_name="seq", split_axis=1, concat_axis=0, tiled=True)
  assert moved(traded) == {"seq": {"all-to-all": BYTES / 4 * 3 / 4}}


@pytest.mark.parametrize("axes", [("fsdp",), ("fsdp", "seq")])
def test_axes_are_those_along_which_devices_differ(axes):
  out = P() if "seq" in axes else P("seq")
  assert set(moved(lambda x: lax.psum(x, axes), out)) == {"*".join(axes)}


def test_a_program_of_one_device_sends_nothing():
  text = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile().as_text()
  assert collectives.read_collectives(text, dict.fromkeys(SIZES, 1)) == []


def test_nested_loops_multiply():
  inner = looped(lambda x: lax.psum(x, "seq"))
  received = moved(looped(inner))["seq"]["all-reduce"]
  assert received == LOOPS * LOOPS * BYTES / 4 * 2 * 3 / 4
