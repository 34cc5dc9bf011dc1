# SPDX-License-Identifier: Apache-2.0
"""Peak memory and minutes of `filax convert`, on random bfloat16 weights.

  python -m benchmarks.convert_memory                      # A FiLA of Qwen2-7B and SigLIP.
  python -m benchmarks.convert_memory --model videochat-flash --folder /data/scratch --json out.json

Writes the PyTorch folder (16 GB), converts it to a checkpoint and that to a folder again, each in a
process of its own, and removes all of it; 32 GB of disk are used at a time. The limit is two times
the largest stacked leaf above what the same commands take for a model of a few kilobytes.
"""

import argparse
from collections.abc import Mapping
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import jax
import ml_dtypes
import numpy as np

from filax.checkpoint.tuples import as_tuples
from filax.configs import fila_stage4, vcf_stage3
from filax.convert import report, safetensors_writer, tensor_map, tensor_plan
from filax.convert.formats import FORMATS
from filax.models import components

DTYPE = np.dtype(ml_dtypes.bfloat16)
MODELS = {  # Name -> (config of the model, format of its PyTorch folder)
  "fila": (fila_stage4, "hf"),
  "videochat-flash": (vcf_stage3, "videochat-flash"),
}


def main() -> None:
  """Measures both conversions, and prints a table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--size", choices=("7B", "tiny"), default="7B")
  parser.add_argument("--model", choices=tuple(MODELS), default="fila")
  parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
  parser.add_argument("--json", help="file for the figures")
  options = parser.parse_args()
  jax.config.update("jax_platforms", "cpu")
  module, form = MODELS[options.model]
  with tempfile.TemporaryDirectory(dir=options.folder) as folder:
    scratch = pathlib.Path(folder)
    baseline = measure(scratch / "tiny", module.get_config("debug").to_dict(), form)
    figures = baseline
    if options.size != "tiny":
      figures = measure(scratch / "full", module.get_config().to_dict(), form)
  figures = with_limit(dict(model=options.model, size=options.size) | figures, baseline)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
  print(figures_table(figures))


def measure(folder: pathlib.Path, config: dict[str, Any], form: str) -> dict[str, Any]:
  """Seconds, peak bytes and sizes of both conversions of a random model."""
  config["model"]["merger"] = {"hf": dict(name="mean")}.get(form, config["model"]["merger"])
  config = as_tuples(config)
  sizes = write_random_model(folder / "pytorch", config, form)
  import_report = convert(folder / "run", "from", "--source", folder / "pytorch")
  shutil.rmtree(folder / "pytorch")
  export_report = convert(folder / "out", "to", "--checkpoint", folder / "run", "--format", form)
  shutil.rmtree(folder)
  imported = tensor_digests(import_report)
  exported = tensor_digests(export_report)
  figures = dict(sizes)
  figures["same tensors"] = imported.items() <= exported.items()
  for direction, conversion in (("from", import_report), ("to", export_report)):
    figures[direction] = dict(seconds=conversion["seconds"], peak=conversion["peak_memory_bytes"])
  return figures


def tensor_digests(conversion: Mapping[str, Any]) -> dict[str, str]:
  """name -> sha256 of the tensors in a report."""
  return {tensor["name"]: tensor["sha256"] for tensor in conversion["tensors"]}


def write_random_model(
  folder: pathlib.Path, config: Mapping[str, Any], form: str
) -> dict[str, Any]:
  """Writes a random model as a PyTorch folder; returns its sizes."""
  model = config["model"]
  kind = FORMATS[form]
  shapes = tensor_plan.parameter_shapes(model, components.ROLES)
  groups = tensor_map.group_by_tensors(
    tensor_map.map_parameters(model, shapes, components.build("llm", model["llm"]).vocab)
  )
  scheme = kind.scheme(model)
  specs = [
    safetensors_writer.TensorSpec(scheme.file_name(name), group[0].tensor_shape, DTYPE)
    for group in groups
    for name in group[0].names
  ]
  pool = np.random.default_rng(0).normal(0, 0.02, 1 << 22).astype(DTYPE)
  with safetensors_writer.ShardWriter(folder, specs) as files:
    for spec in specs:
      files.write_tensor(spec.name, np.resize(pool, spec.shape))
    files.finish()
  (folder / "config.json").write_text(json.dumps(kind.config(config, DTYPE.name, None, (0, 1))))
  sizes = {path: math.prod(leaf.shape) * DTYPE.itemsize for path, leaf in shapes.items()}
  largest = max((path for path in sizes if "/layers/" in path), key=sizes.get)
  return dict(
    tensors=len(specs),
    bytes=sum(spec.size for spec in specs),
    largest_leaf=largest,
    largest_leaf_bytes=sizes[largest],
  )


def convert(out: pathlib.Path, direction: str, *argv: Any) -> dict[str, Any]:
  """Runs the command and returns its report."""
  subprocess.run(
    [sys.executable, "-m", "filax", "convert", direction, *map(str, argv), "--out", str(out)],
    check=True,
    stdout=subprocess.DEVNULL,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  return json.loads((out / report.REPORT_FILE).read_text())


def with_limit(figures: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
  """The figures with the limit, and whether both directions keep it."""
  limit = 2 * figures["largest_leaf_bytes"]
  result = dict(figures, cores=os.cpu_count())
  within_limit = True
  for direction in ("from", "to"):
    tiny_peak = baseline[direction]["peak"]
    above = figures[direction]["peak"] - tiny_peak
    result[direction] = figures[direction] | dict(baseline=tiny_peak, above=above)
    within_limit = within_limit and above <= limit
  return result | dict(limit=limit, within_limit=within_limit)


def gb(size: float) -> str:
  """Bytes as text in gigabytes."""
  return f"{size / 1e9:.2f} GB"


def figures_table(figures: Mapping[str, Any]) -> str:
  """The figures as a Markdown table and two sentences."""
  rows = [
    f"{figures['model']} {figures['size']}: {figures['tensors']} tensors, "
    f"{gb(figures['bytes'])} in bfloat16, {figures['cores']} cores",
    f"largest stacked leaf: {figures['largest_leaf']}, {gb(figures['largest_leaf_bytes'])}",
    "",
    "| direction | minutes | peak | of which baseline | above it | limit |",
    "|---|---|---|---|---|---|",
  ]
  limit = gb(figures["limit"])
  for direction in ("from", "to"):
    row = figures[direction]
    minutes = f"{row['seconds'] / 60:.1f}"
    columns = (minutes, gb(row["peak"]), gb(row["baseline"]), gb(row["above"]), limit)
    rows.append(f"| {direction} PyTorch | {' | '.join(columns)} |")
  kept = "kept" if figures["within_limit"] else "BROKEN"
  same = "the same" if figures["same tensors"] else "NOT THE SAME"
  rows += ["", f"The limit is {kept}; tensors there and back are {same}."]
  return "\n".join(rows)


if __name__ == "__main__":
  main()
