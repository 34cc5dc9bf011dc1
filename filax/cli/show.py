# SPDX-License-Identifier: Apache-2.0
"""filax show --config F[:args] [--config.key=value ...]

Prints what a config would train, without training:

- every key with its value,
- every parameter with its size, its learning rate and its layout on the mesh,
- the memory of parameters, gradients and optimizer,
- how many tokens a sample has.

A 7B takes seconds on a laptop. Only the config is read, and the vocabulary of config.init_from if
that is here.

  filax show --config configs/fila_stage4.py
  filax show --config configs/fila_stage4.py --config.data.sampling.frames=48
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import math
from typing import Any

from flax import traverse_util
import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from data_pipelines.packing import planner, visual_order
from filax import starting_point
from filax.checkpoint.best import parse_metric
from filax.cli import config_flags, options
from filax.costs import train_costs
from filax.infer.config_check import check_infer
from filax.models import components, lora
from filax.models.adapted import adapted_shapes
from filax.parallel import rules
from filax.spec import RowShape, VisualLayout, dropout_stages
from filax.train import optim

GIB = 2**30
Leaves = Mapping[str, jax.ShapeDtypeStruct]  # By path.


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  args, overrides = options.config_parser("show", __doc__, required=False).parse_known_args(argv)
  if args.config is not None:
    overrides = ["--config", args.config, *overrides]
  config, _ = config_flags.read_config(overrides)
  starting_point.plan_vocabulary(config)
  jax.config.update("jax_platforms", "cpu")  # Shapes need no device; do not wait for one.
  print("\n".join(report(config)))
  return 0


def report(config: ConfigDict) -> Iterator[str]:
  """The lines of `filax show`."""
  yield "Config"
  for key, value in config_items(config.to_dict()):
    yield f"  {key} = {value!r}"
  model = components.build_video_lm(config.model)
  check_infer(config)
  shapes = adapted_shapes(model, config.get("lora"))
  kernels = components.dense_kernels(model) if config.optim.get("kind") == "muon" else {}
  steps = max(config.steps, 1000)
  shapes = optim.float32_where_trained(config.optim.to_dict(), shapes)
  optimizer = optim.make_optimizer(config.optim.to_dict(), shapes, steps, kernels)
  yield ""
  leaves = traverse_util.flatten_dict(shapes, sep="/")
  yield from parameter_lines(leaves, optimizer, config)
  yield ""
  yield from token_lines(config, model)
  if config.get("evals") or config.get("best"):
    yield ""
    yield from evaluation_lines(config)
  yield ""
  costs = train_costs(model, shapes, optimizer.rates)
  yield "Work of a train step (model FLOPs, nothing computed twice)"
  yield f"  a position {costs.token / 1e9:,.1f} G, a pair that attends {costs.pair / 1e6:,.2f} M"
  yield f"  a frame {costs.frame / 1e9:,.1f} G, an image {costs.image / 1e9:,.1f} G"


def config_items(config: Mapping[str, Any], path: str = "config") -> Iterator[tuple[str, Any]]:
  """("config.a.b", value) of every key, in order."""
  for key in sorted(config):
    value = config[key]
    if isinstance(value, Mapping):
      yield from config_items(value, f"{path}.{key}")
    else:
      yield f"{path}.{key}", value


def parameter_lines(
  leaves: Leaves, optimizer: optim.Optimizer, config: ConfigDict
) -> Iterator[str]:
  """One line per parameter, one line per part, and the totals."""
  table = components.dims_table(config.model)
  width = max(map(len, leaves))
  yield f"{'Parameters':<{width + 2}}  {'count':>13}  {'dtype':<8}  {'rate':>7}  shape (mesh axes)"
  for path, leaf in leaves.items():
    layout = rules.parameter_spec(table, path, leaf.shape)
    yield (
      f"  {path:<{width}}  {leaf.size:>13,}  {leaf.dtype.name:<8}  "
      f"{_rate(optimizer.rates[path]):>7}  {_split_shape(leaf.shape, layout)}"
    )
  parts: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
  for path, leaf in leaves.items():
    role = path.partition("/")[0]
    parts.setdefault(role, {})[path] = leaf
  for role in components.ROLES:
    if role in parts:
      yield _total_line(role, parts[role], optimizer, width)
  yield _total_line("all", leaves, optimizer, width)
  trained = _trained_count(leaves, optimizer)
  yield (
    f"  {_parameter_sizes(leaves)}, {_state_sizes(leaves, optimizer)}, "
    f"{4 * trained / GIB:,.1f} GiB of gradients, over all devices together."
  )


def _state_sizes(leaves: Leaves, optimizer: optim.Optimizer) -> str:
  """GiB of the optimizer's state, and of averages."""
  params = traverse_util.unflatten_dict(dict(leaves), sep="/")
  text = f"{_tree_bytes(optimizer.init, params) / GIB:,.1f} GiB of optimizer moments"
  averages = _tree_bytes(optimizer.first_average, params)
  return f"{text}, {averages / GIB:,.1f} GiB of averages" if averages else text


def _tree_bytes(make_tree: Callable[[PyTree], PyTree], params: PyTree) -> int:
  """Bytes of the arrays that `make_tree` makes of the parameters."""
  leaves = jax.tree.leaves(jax.eval_shape(make_tree, params))
  return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _parameter_sizes(leaves: Leaves) -> str:
  """GiB of parameters; with adapters, theirs and those of the base."""
  base = 0.0
  adapters = 0.0
  for path, leaf in leaves.items():
    size = leaf.size * leaf.dtype.itemsize / GIB
    if lora.is_adapter(path):
      adapters += size
    else:
      base += size
  if adapters:
    return f"{base:,.1f} GiB of the base, {adapters:,.2f} GiB of adapters"
  return f"{base:,.1f} GiB of parameters"


def _split_shape(shape: Sequence[int], layout: jax.sharding.PartitionSpec) -> str:
  """A shape with the mesh axes of each dimension: "28 3584(fsdp,seq) 128"."""
  words = []
  for size, axes in zip(shape, layout, strict=True):
    if axes is None:
      words.append(f"{size}")
    elif isinstance(axes, str):
      words.append(f"{size}({axes})")
    else:
      words.append(f"{size}({','.join(axes)})")
  return " ".join(words)


def _rate(rate: float) -> str:
  return f"{rate:g}" if rate else "frozen"


def _total_line(name: str, leaves: Leaves, optimizer: optim.Optimizer, width: int) -> str:
  count = sum(leaf.size for leaf in leaves.values())
  trained = _trained_count(leaves, optimizer)
  rates = {optimizer.rates[path] for path in leaves}
  rates.discard(0.0)
  words = ", ".join(f"{rate:g}" for rate in sorted(rates))
  at_rates = f" at {words}" if words else ""
  return f"  {name:<{width}}  {count:>13,}  {trained / count:.1%} trained{at_rates}"


def _trained_count(leaves: Leaves, optimizer: optim.Optimizer) -> int:
  return sum(leaf.size for path, leaf in leaves.items() if optimizer.rates[path])


def token_lines(config: ConfigDict, model: Any) -> Iterator[str]:
  """Visual tokens of a video and of a picture, and the rows."""
  layout = model.layout()
  sampling = config.data.sampling
  groups = model.selector.groups(sampling.frames)
  yield "Visual tokens of a sample"
  yield (
    f"  video: {sampling.frames} frames ({sampling.name}) -> {groups} groups of "
    f"{layout.frames_per_group} -> {_grid(layout.group_grid)} tokens each, newline "
    f"{layout.newline}: {len(visual_order.video_order(groups, layout)):,}"
  )
  yield (
    f"  image: {_grid(layout.image_grid)} tokens a picture, at most {config.data.images.tiles} "
    f"tiles ({config.data.images.mode})"
  )
  packed = "packed" if config.data.packing else "one sample a row"
  yield f"Rows ({packed}), {config.batch} a step"
  for row in planner.row_shapes(config.data.rows, layout.frames_per_unit):
    yield f"  {_row_text(row, layout)}"


def evaluation_lines(config: ConfigDict) -> Iterator[str]:
  """What is evaluated during training. Raises ValueError for an unknown name."""
  from filax.evals import planned

  evaluations = planned.plan_evaluations(config.evals)
  planned.check_best(config.best, evaluations)
  yield f"Evaluations during training, {config.evals_batch} prompts at a time"
  for evaluation in evaluations:
    kind = "manifest" if evaluation.is_manifest else "benchmark"
    count = f"the first {evaluation.limit:,} questions" if evaluation.limit else "all questions"
    yield (
      f"  eval/{evaluation.name}: every {evaluation.every:,} steps and at the end, {count} of the "
      f"{kind} {evaluation.source} ({', '.join(planned.score_names(evaluation))})"
    )
  metric, direction = parse_metric(config.best)
  if metric:
    extreme = "least" if direction == "min" else "highest"
    yield f"  the checkpoint with the {extreme} {metric} stays as D/best"


def _grid(grid: tuple[int, int]) -> str:
  return f"{grid[0]} x {grid[1]} = {math.prod(grid)}"


def _row_text(row: RowShape, layout: VisualLayout) -> str:
  visual = layout.newline_index(row)
  text = (
    f"{row.frames} frames, {row.images} images, {row.length:,} positions, {row.segments} samples: "
    f"up to {visual:,} visual tokens"
  )
  lengths = dropout_stages.room(row, layout)
  for stage, length in zip(layout.stages, lengths, strict=True):
    text += f", {length:,} positions after layer {stage.layer} ({stage.kind} {stage.ratio:g})"
  return text
