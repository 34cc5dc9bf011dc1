# SPDX-License-Identifier: Apache-2.0
"""Paths to dimension words to mesh axes; every refusal names what to change."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from filax.parallel import mesh, rules

TABLE = (
  (r"^llm/.*q_proj/kernel$", "embed heads head_dim"),
  (r"q_proj/kernel$", "width heads head_dim"),
  (r"embedding$", "vocab_rows -"),
)


def sharded(**sizes):
  return mesh.make_mesh(dict(data=1, fsdp=1, seq=1, tensor=1) | sizes)


def test_words_become_axes():
  assert rules.partition_spec("batch seq -") == P(("data", "fsdp"), "seq", None)
  assert rules.partition_spec("embed heads", rules.PARAMETER_AXES) == P(("fsdp", "seq"), "tensor")


def test_no_word_uses_an_axis_that_the_mesh_lacks():
  for table in (rules.PARAMETER_AXES, rules.ACTIVATION_AXES):
    for axes in table.values():
      assert set(axes if isinstance(axes, tuple) else (axes,)) <= {None, *rules.MESH}


def test_the_first_row_wins_and_stacked_layers_are_whole():

  def spec(path, shape):
    return rules.parameter_spec(TABLE, path, shape)

  assert spec("llm/q_proj/kernel", (8, 4, 2)) == P(("fsdp", "seq"), "tensor", None)
  assert spec("llm/layers/q_proj/kernel", (3, 8, 4, 2)) == P(None, ("fsdp", "seq"), "tensor", None)
  assert spec("encoder/q_proj/kernel", (8, 4, 2)) == P("fsdp", "tensor", None)


def test_a_parameter_without_a_row_is_an_error():
  with pytest.raises(ValueError, match=r"No row of DIMS covers merger/weight \(3, 4\)"):
    rules.parameter_spec(TABLE, "merger/weight", (3, 4))


def test_a_row_with_the_wrong_rank_is_an_error():
  with pytest.raises(ValueError, match="embed heads head_dim"):
    rules.parameter_spec(TABLE, "llm/q_proj/kernel", (8, 4))


def test_shardings_of_a_tree():
  tree = dict(llm=dict(q_proj=dict(kernel=jax.ShapeDtypeStruct((8, 4, 2), jnp.float32))))
  shardings = rules.parameter_shardings(TABLE, tree, sharded(fsdp=2, seq=2, tensor=2))
  assert shardings["llm"]["q_proj"]["kernel"].spec == P(("fsdp", "seq"), "tensor", None)


def test_a_size_that_does_not_split_names_the_knob_and_what_fits():
  with pytest.raises(
    ValueError, match=r"4 does not split 8 ways.*config\.mesh\.tensor.*\[1, 2, 4\]"
  ):
    rules.check_divides("k", (3, 4), P(None, "tensor"), sharded(tensor=8))
  with pytest.raises(ValueError, match=r"12 does not split 8 ways"):
    rules.check_divides("k", (12,), P("tensor"), sharded(tensor=8))


def test_constrain_does_nothing_without_a_mesh_and_lays_out_on_one():
  x = jnp.arange(32.0).reshape(4, 8)
  assert rules.constrain(x, "batch seq") is x
  with jax.set_mesh(sharded(data=2, seq=4)):
    out = jax.jit(lambda x: rules.constrain(x, "batch seq"))(x)
  assert {s.data.shape for s in out.addressable_shards} == {(2, 2)}
  np.testing.assert_array_equal(out, x)


def test_paths_are_written_with_slashes():
  ((path, _),) = jax.tree_util.tree_leaves_with_path({"llm": {"layers": {"kernel": 0}}})
  assert rules.leaf_path(path) == "llm/layers/kernel"
