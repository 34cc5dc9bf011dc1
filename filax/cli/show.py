# SPDX-License-Identifier: Apache-2.0
"""filax show --config F[:args] [--config.key=value ...]

Prints what a config comes to: every key, the parameters with their learning rates and their layout
on the mesh, and how many tokens a sample has. Nothing is computed or read but the config: a 7B
takes seconds on a laptop, without data and without a device.
"""

from collections.abc import Iterator, Mapping, Sequence
import math
from typing import Any

from flax import traverse_util
import jax
from ml_collections import ConfigDict

from data_pipelines.packing import planner, visual_order
from filax.cli import config_flags
from filax.costs import train_costs
from filax.models import components
from filax.parallel import rules
from filax.spec import RowShape, VisualLayout, dropout_stages
from filax.train import optim

GIB = 2**30


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  if {"-h", "--help"} & set(argv):
    print(__doc__.strip())
    return 0
  config, _ = config_flags.read(argv)
  jax.config.update("jax_platforms", "cpu")  # Shapes need no device; do not wait for one.
  print("\n".join(report(config)))
  return 0


def report(config: ConfigDict) -> Iterator[str]:
  """The lines of `filax show`."""
  yield "Config"
  yield from (f"  {key} = {value!r}" for key, value in flat(config.to_dict()))
  model = components.build_video_lm(config.model)
  shapes = components.parameter_shapes(model)
  optimizer = optim.make(config.optim.to_dict(), shapes, max(config.steps, 1000))
  yield ""
  yield from parameters(traverse_util.flatten_dict(shapes, sep="/"), optimizer, config)
  yield ""
  yield from tokens(config, model)
  yield ""
  costs = train_costs(model, shapes, optimizer.rates)
  yield "Work of a train step (model FLOPs, nothing computed twice)"
  yield f"  a position {costs.token / 1e9:,.1f} G, a pair that attends {costs.pair / 1e6:,.2f} M"
  yield f"  a frame {costs.frame / 1e9:,.1f} G, an image {costs.image / 1e9:,.1f} G"


def flat(config: Mapping[str, Any], path: str = "config") -> Iterator[tuple[str, Any]]:
  """("config.a.b", value) of every key, in order."""
  for key in sorted(config):
    value = config[key]
    if isinstance(value, Mapping):
      yield from flat(value, f"{path}.{key}")
    else:
      yield f"{path}.{key}", value


def parameters(leaves, optimizer: optim.Optimizer, config: ConfigDict) -> Iterator[str]:
  """A row a parameter, then a row a part and the totals."""
  table = components.dims_table(config.model)
  width = max(map(len, leaves))
  yield f"{'Parameters':<{width + 2}}  {'count':>13}  {'dtype':<8}  {'rate':>7}  shape (mesh axes)"
  for path, leaf in leaves.items():
    layout = rules.parameter_spec(table, path, leaf.shape)
    axes = " ".join(f"{size}{_axes(axis)}" for size, axis in zip(leaf.shape, layout, strict=True))
    yield (
      f"  {path:<{width}}  {leaf.size:>13,}  {leaf.dtype.name:<8}  "
      f"{_rate(optimizer.rates[path]):>7}  {axes}"
    )
  for role in components.ROLES:
    own = {path: x for path, x in leaves.items() if path.startswith(f"{role}/")}
    if own:
      yield _total(role, own, optimizer, width)
  yield _total("all", leaves, optimizer, width)
  held = sum(x.size * x.dtype.itemsize for x in leaves.values())
  learned = sum(x.size for path, x in leaves.items() if optimizer.rates[path])
  yield (
    f"  {held / GIB:,.1f} GiB of parameters, {8 * learned / GIB:,.1f} GiB of optimizer moments, "
    f"{4 * learned / GIB:,.1f} GiB of gradients, over all devices together."
  )


def _axes(axis: Any) -> str:
  if axis is None:
    return ""
  return f"({axis if isinstance(axis, str) else ','.join(axis)})"


def _rate(rate: float) -> str:
  return f"{rate:g}" if rate else "frozen"


def _total(name: str, leaves, optimizer: optim.Optimizer, width: int) -> str:
  count = sum(x.size for x in leaves.values())
  learned = sum(x.size for path, x in leaves.items() if optimizer.rates[path])
  rates = sorted({optimizer.rates[path] for path in leaves if optimizer.rates[path]})
  at = f" at {', '.join(f'{rate:g}' for rate in rates)}" if rates else ""
  return f"  {name:<{width}}  {count:>13,}  {learned / count:.1%} trained{at}"


def tokens(config: ConfigDict, model: Any) -> Iterator[str]:
  """What a video and a picture become, and the rows that samples are put into."""
  layout = model.layout()
  sampling = config.data.sampling
  groups = model.selector.groups(sampling.frames)
  yield "Visual tokens of a sample"
  yield (
    f"  video: {sampling.frames} frames ({sampling.name}) -> {groups} groups of "
    f"{layout.frames_per_group} -> {_grid(layout.group_grid)} tokens each, newline "
    f"{layout.newline}: {len(visual_order.video(groups, layout)):,}"
  )
  yield (
    f"  image: {_grid(layout.image_grid)} tokens a picture, at most {config.data.images.tiles} "
    f"tiles ({config.data.images.mode})"
  )
  packed = "packed" if config.data.packing else "one sample a row"
  yield f"Rows ({packed}), {config.batch} a step"
  for row in planner.row_shapes(config.data.rows, layout.frames_per_group):
    yield f"  {_row(row, layout)}"


def _grid(grid: tuple[int, int]) -> str:
  return f"{grid[0]} x {grid[1]} = {math.prod(grid)}"


def _row(row: RowShape, layout: VisualLayout) -> str:
  visual = layout.newline_index(row)
  drops = "".join(
    f", {left:,} positions after layer {stage.layer} ({stage.kind} {stage.ratio:g})"
    for stage, left in zip(layout.stages, dropout_stages.room(row, layout), strict=True)
  )
  return (
    f"{row.frames} frames, {row.images} images, {row.length:,} positions, {row.segments} samples: "
    f"up to {visual:,} visual tokens{drops}"
  )
