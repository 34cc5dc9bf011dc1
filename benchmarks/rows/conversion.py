# SPDX-License-Identifier: Apache-2.0
"""Conversion from and to PyTorch folders (benchmarks/convert_memory.py)."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side


def _filax(model: str, size: str) -> Repetition:
  def convert_both_ways():
    import jax

    from benchmarks import convert_memory
    from benchmarks.scratch import empty_folder

    jax.config.update("jax_platforms", "cpu")
    module, form = convert_memory.MODELS[model]
    config = module.get_config("debug") if size == "tiny" else module.get_config()
    figures = convert_memory.measure(empty_folder("convert") / size, config.to_dict(), form)
    there = figures["from"]
    back = figures["to"]
    return dict(
      seconds=there["seconds"] + back["seconds"],
      amount=2 * figures["bytes"] / 1e9,
      from_s=there["seconds"],
      to_s=back["seconds"],
      from_peak_gb=there["peak"] / 1e9,
      to_peak_gb=back["peak"] / 1e9,
    )

  return convert_both_ways


ROWS = (
  BenchmarkRow(
    "conversion",
    "PyTorch folder to checkpoint and back, bfloat16",
    "GB/s",
    (Side(OURS, _filax),),
    shapes=(dict(model="fila", size="tiny"),),
    full=(dict(model="fila", size="7B"),),
    repeats=1,
  ),
)
