# SPDX-License-Identifier: Apache-2.0
"""The work of a full row, against the sums that a step itself counts."""

import jax
import pytest

from filax.costs import train_costs
from filax.models import adapted, components
from filax.parallel import rules
from filax.testing import packed_rows
from filax.train.recompute import layer_shape
from filax.train.step_work import parameter_sizes, train_work


def all_trained(shapes):
  """path -> rate 1."""
  rates = {}
  for path, _ in jax.tree_util.tree_leaves_with_path(shapes):
    rates[rules.leaf_path(path)] = 1.0
  return rates


@pytest.mark.parametrize("config", [packed_rows.FILA, packed_rows.FLASH], ids=["fila", "flash"])
def test_a_full_row_is_what_the_step_would_count(config):
  model, _ = packed_rows.tiny_model(config)
  shapes = components.parameter_shapes(model)
  rates = all_trained(shapes)
  row = packed_rows.row_shape(model.layout())
  work = train_work(model, shapes, rates, row)
  costs = train_costs(model, shapes, rates)
  lengths = (row.length, *row.room)
  shares = [(stop - first) / model.llm.depth for first, stop in model.llm.ranges]
  sums = dict(
    passed=sum(share * n for share, n in zip(shares, lengths, strict=True)),
    left=lengths[-1],
    pairs=sum(share * n * n / 2 for share, n in zip(shares, lengths, strict=True)),
    frames=row.frames,
    images=row.images,
  )
  assert work.encoder + work.llm == pytest.approx(costs.step_flops(sums), rel=1e-12)
  assert (work.dropped > 0) == bool(model.llm.stages)
  assert work.recomputed == 0 and work.hardware == work.model  # remat is "none" here.


def test_recomputation_depends_on_what_is_kept():
  work = {}
  for remat in ("nothing", "attn", "none"):
    llm = packed_rows.FILA["llm"] | dict(remat=remat)
    model, _ = packed_rows.tiny_model(packed_rows.FILA, llm=llm)
    shapes = components.parameter_shapes(model)
    rates = all_trained(shapes)
    work[remat] = train_work(model, shapes, rates, packed_rows.row_shape(model.layout())).recomputed
  assert work["nothing"] > work["attn"] > work["none"] == 0


def compiled_flops(remat):
  """FLOPs of a gradient through the tiny llm, as compiled: a loop over layers counts once.

  One layer alone would not do: XLA then shares products of the two passes.
  """
  model = components.build("llm", dict(name="qwen2", variant="tiny", remat=remat))
  x = jax.ShapeDtypeStruct((2, 64, 32), "float32")
  positions = jax.ShapeDtypeStruct((2, 64), "int32")
  variables = jax.eval_shape(model.init, jax.random.key(0), x, positions)

  def loss(variables, x, positions):
    return (model.apply(variables, x, positions)[0] ** 2).sum()

  gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
  return gradient.lower(variables, x, positions).compile().cost_analysis()["flops"]


def test_policies_repeat_the_products_that_they_do_not_keep():
  """Of a layer's kernels, 3,072 are before attention, 1,024 after it, 4,096 are gate and up."""
  model = components.build_video_lm(packed_rows.FILA)
  layer = layer_shape("llm", 32, parameter_sizes(components.parameter_shapes(model)))
  fewest = compiled_flops("products")
  for remat in ("attn_qkv", "attn_mlp", "attn"):
    repeated = 2 * 128 * layer.elements * layer.repeated_share(remat)
    assert compiled_flops(remat) - fewest == pytest.approx(repeated, rel=0.05), remat


@pytest.mark.parametrize("base", ["same", "int8", "nf4"])
def test_a_quantised_layer_has_the_shape_of_its_kernels(base):
  model = components.build_video_lm(packed_rows.FILA)
  adapters = dict(ranks=(("^llm/layers/", 4),), alpha=8.0, dropout=0.0, base=base)
  sizes = parameter_sizes(adapted.adapted_shapes(model, adapters))
  plain = parameter_sizes(components.parameter_shapes(model))
  for role, width in (("llm", 32), ("encoder", 32)):
    assert layer_shape(role, width, sizes) == layer_shape(role, width, plain)
