# SPDX-License-Identifier: Apache-2.0
"""One page per stage with its recipe, from its config, its mixture and the recorded plans."""

from collections.abc import Iterator, Mapping, Sequence
import importlib
import inspect
import json
import math
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from data_pipelines.manifest.reader import select_records
from docs.generators.page_files import update_page
from filax.cli import show
from filax.configs.mixtures.parts import MixturePart
from filax.models import components
from filax.models.adapted import adapted_shapes
from filax.train import optim
from filax.train.chips import GIB

DOCS = pathlib.Path(__file__).parents[1]
STAGES = tuple(f"{model}_stage{number}" for model in ("fila", "vcf") for number in (1, 2, 3, 4))
HOUR = 3600.0
URL = re.compile(r"https?://\S+")
Plans = Mapping[str, Mapping[str, Any]]  # docs/plan.json.
Choices = Sequence[Mapping[str, Any]]  # docs/plan_choices.json.


def write_stage_cards(folder: pathlib.Path) -> None:
  """Writes one page per stage, and the page that compares them."""
  plans = json.loads((DOCS / "plan.json").read_text())
  choices = json.loads((DOCS / "plan_choices.json").read_text())
  for stage in STAGES:
    update_page(folder / f"{stage}.md", card_lines(stage, plans, choices))
  update_page(folder / "index.md", index_lines())


def index_lines() -> Iterator[str]:
  """The page that compares the stages, and leads to them."""
  yield "# Recipes, stage by stage"
  yield ""
  yield "FiLA-Video and VideoChat-Flash are trained in four stages each. A stage is a config file."
  yield "Its page has the recipe, the data with their licences, and what a step takes of a TPU"
  yield "slice. The pages are written from the configs whenever this site is built."
  yield ""
  yield "| stage | learns | samples a step | frames | positions of a row | samples | steps |"
  yield "|---|---|---|---|---|---|---|"
  for stage in STAGES:
    yield index_row(stage)
  yield ""
  yield "Where a publisher does not state the size of a file, its samples are not counted."
  yield from ("", "```{toctree}", ":maxdepth: 1", ":hidden:", "", *STAGES, "```")


def index_row(stage: str) -> str:
  """A row of the table of stages."""
  config = importlib.import_module(f"filax.configs.{stage}").get_config()
  parts = importlib.import_module(f"filax.configs.mixtures.{stage}").PARTS
  learning = []
  for pattern, rate in config.optim.rates:
    if rate:
      learning.append(f"{pattern.strip('^/') or 'all'} {rate:g}")
  positions = ", ".join(f"{row[2]:,}" for row in config.data.rows)
  return (
    f"| [{stage}]({stage}.md) | {', '.join(learning)} | {config.batch} | "
    f"{frames_text(config.data.sampling)} | {positions} | {count_text(parts)} | "
    f"{step_count(config, parts):,} |"
  )


def card_lines(stage: str, plans: Plans, choices: Choices) -> Iterator[str]:
  """The page of a stage, line by line."""
  module = importlib.import_module(f"filax.configs.{stage}")
  config = module.get_config()
  mixture = importlib.import_module(f"filax.configs.mixtures.{stage}")
  yield from docstring_lines(inspect.getdoc(module) or "")
  yield from ("", "## Recipe", "")
  yield from recipe_table(config)
  yield from ("", "## Visual tokens and rows", "")
  model = components.build_video_lm(config.model)
  for line in show.token_lines(config, model):
    text = line.strip()
    yield f"- {text}" if line.startswith(" ") else f"\n{text}:\n"
  yield from ("", "## Data", "")
  yield from data_lines(config, mixture.PARTS, stage)
  yield from ("", "## Memory and time", "")
  yield from plan_lines(stage, step_count(config, mixture.PARTS), plans, choices)


def docstring_lines(text: str) -> Iterator[str]:
  """A docstring as Markdown: a title, paragraphs, and indented commands as code."""
  first, _, rest = text.partition("\n")
  title, subtitle = re.split(r"[,:] ", first, maxsplit=1)
  yield f"# {title}"
  yield ""
  yield f"{subtitle[:1].upper()}{subtitle[1:]}"
  for paragraph in rest.strip().split("\n\n"):
    yield ""
    if paragraph.startswith("  "):
      yield "```bash"
      yield from inspect.cleandoc(paragraph).splitlines()
      yield "```"
    else:
      yield " ".join(paragraph.split())


def recipe_table(config: ConfigDict) -> Iterator[str]:
  """What learns at which rate, the optimizer, and how samples are written."""
  data = config.data
  settings = config.optim
  warmup = f"{settings.warmup:.0%} of the steps" if settings.warmup < 1 else f"{settings.warmup}"
  length = f"{config.steps:,} steps" if config.steps else f"{config.epochs:g} epoch"
  yield from ("| what | value |", "|---|---|")
  yield from part_rows(config)
  yield f"| frames of a video | {frames_text(data.sampling)} |"
  yield f"| frames become square by | {data.resize} (`config.data.resize`) |"
  yield f"| samples a step | {config.batch} |"
  yield f"| length | {length}, warm-up {warmup} |"
  yield (
    f"| optimizer | {settings.kind}, b1 {settings.b1:g}, b2 {settings.b2:g}, gradient norm at most "
    f"{settings.clip:g}, loss by `{settings.reduction}` |"
  )
  yield f"| template | {data.template}, times in the question: {data.time_prompt} |"
  yield f"| computation, parameters | {config.model.dtype}, {config.model.param_dtype} |"
  yield f"| mesh | {mesh_text(config.mesh)} |"


def part_rows(config: ConfigDict) -> Iterator[str]:
  """A row for each part of the model: component, parameters, rate."""
  model = components.build_video_lm(config.model)
  shapes = adapted_shapes(model, config.get("lora"))
  optimizer = optim.make_optimizer(config.optim.to_dict(), shapes, 1000)
  counts: dict[str, int] = {}
  rates: dict[str, set[float]] = {}
  for path, size in leaf_sizes(shapes):
    role = path.partition("/")[0]
    counts[role] = counts.get(role, 0) + size
    rates.setdefault(role, set()).add(optimizer.rates[path])
  for role in components.ROLES:
    section = config.model[role]
    name = " ".join(filter(None, (section.name, section.get("variant", ""))))
    text = "no parameters"
    if role in counts:
      text = f"{counts[role]:,} parameters, {rate_text(rates[role])}"
    yield f"| {role} | `{name}`: {text} |"
  yield f"| all parts | {sum(counts.values()):,} parameters |"


def leaf_sizes(shapes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
  """(path, number of elements) of every parameter."""
  for name, leaf in shapes.items():
    path = f"{prefix}{name}"
    if hasattr(leaf, "items"):
      yield from leaf_sizes(leaf, f"{path}/")
    else:
      yield path, leaf.size


def rate_text(rates: set[float]) -> str:
  """The rates of a part in words."""
  trained = sorted(rates - {0.0})
  if not trained:
    return "frozen"
  return "rate " + ", ".join(f"{rate:g}" for rate in trained)


def frames_text(sampling: ConfigDict) -> str:
  """How many frames of a video are taken."""
  if sampling.name == "dynamic_fps":
    return f"about one a second, {sampling.low} to {sampling.frames}"
  return f"{sampling.frames}, {sampling.name}"


def mesh_text(mesh: ConfigDict) -> str:
  """The axes of the mesh that hold more than one device."""
  axes = []
  for axis, size in mesh.items():
    if size == -1:
      axes.append(f"{axis} takes the remaining devices")
    elif size > 1:
      axes.append(f"{axis}={size}")
  return ", ".join(axes)


def sample_count(part: MixturePart) -> int | None:
  """The samples that a stage takes of a part.

  None if the publisher gives no number.
  """
  if part.published_count is None:
    return None
  return len(select_records(part.published_count, part.strategy, 0))


def data_lines(config: ConfigDict, parts: Sequence[MixturePart], stage: str) -> Iterator[str]:
  """The published mixture by source, and the commands that find it."""
  files = ", ".join(f"`{path}`" for path, _ in config.data.train)
  yield (
    f"Without further arguments the stage reads {files}. The published mixture has {len(parts)} "
    f"files; `mixture=full` trains on all of them, `mixture=present` on those that are there:"
  )
  yield from ("", "```bash")
  yield f"filax data status --config configs/{stage}.py --root DATA"
  yield (
    f"filax train --config configs/{stage}.py:mixture=present,root=DATA --workdir runs/{stage}"
  )
  yield from ("```", "", "| source | files | samples | licence | media |", "|---|---|---|---|---|")
  by_source: dict[Any, list[MixturePart]] = {}
  for part in parts:
    by_source.setdefault(part.source, []).append(part)
  for source, group in by_source.items():
    media = URL.sub(r"<\g<0>>", source.media)
    yield f"| {source.name} | {len(group)} | {count_text(group)} | {source.licence} | {media} |"
  yield f"| all | {len(parts)} | {count_text(parts)} | | |"


def count_text(parts: Sequence[MixturePart]) -> str:
  """The samples of some parts.

  "at least" where a number is not published.
  """
  counts = [sample_count(part) for part in parts]
  numbers = [count for count in counts if count is not None]
  total = f"{sum(numbers):,}"
  if len(numbers) == len(counts):
    return total
  return f"at least {total}" if numbers else "unknown"


def step_count(config: ConfigDict, parts: Sequence[MixturePart]) -> int:
  """The steps of a stage, from the published numbers of samples."""
  if config.steps:
    return config.steps
  samples = 0
  for part in parts:
    samples += sample_count(part) or 0
  return math.ceil(samples * config.epochs / config.batch)


def plan_lines(stage: str, steps: int, plans: Plans, choices: Choices) -> Iterator[str]:
  """What the compiler says of the stage on slices of TPUs."""
  yield (
    f"Nothing here was measured on a TPU. Memory is the compiler's account of a step with the "
    f"largest rows. The seconds are a bound that no step can beat, and chip-hours are {steps:,} "
    f"steps at this bound, with every row as long as the longest: a scale, not a forecast. "
    f"`docs/plan.md` explains the figures."
  )
  yield ""
  yield "| slice | chips | GiB a chip | least seconds a step | chip-hours |"
  yield "|---|---|---|---|---|"
  for plan in stage_plans(stage, plans):
    yield plan_row(plan, steps)
  rows = [choice for choice in choices if choice["config"] == stage]
  if rows:
    yield ""
    yield (
      'What `remat="auto"` and `accumulate="auto"` choose there, with estimated memory and the '
      "arithmetic alone:"
    )
    yield ""
    yield "| slice | encoder keeps | llm keeps | micro-batches | GiB a chip | seconds a step |"
    yield "|---|---|---|---|---|---|"
    yield from map(choice_row, rows)


def stage_plans(stage: str, plans: Plans) -> list[Mapping[str, Any]]:
  """The recorded plans of a stage whose rows were compiled."""
  recorded = []
  for key, plan in plans.items():
    name = key.rpartition(" ")[0]
    if name == stage and plan.get("rows"):
      recorded.append(plan)
  return recorded


def plan_row(plan: Mapping[str, Any], steps: int) -> str:
  """A row of the table of slices."""
  row = plan["rows"][-1]
  seconds = row["step_seconds"]
  memory = f"{row['memory']['total'] / GIB:.1f} of {plan['usable_bytes'] / GIB:.1f}"
  hours = steps * seconds * plan["chips"] / HOUR
  return f"| {plan['topology']} | {plan['chips']} | {memory} | {seconds:.2f} | {hours:,.0f} |"


def choice_row(choice: Mapping[str, Any]) -> str:
  """A row of the table of choices."""
  memory = f"{choice['bytes'] / GIB:.1f} of {choice['device_bytes'] / GIB:.1f}"
  return (
    f"| {choice['slice']} | {choice['encoder']} | {choice['llm']} | {choice['parts']} | {memory} | "
    f"{choice['seconds']:.2f} |"
  )
