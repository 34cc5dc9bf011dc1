# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Table 6: compressors of clips, at several numbers of tokens.

  filax study vcf_table6 --workdir runs/studies
  filax study vcf_table6:7b,root=data,init=runs --workdir runs/table6

The paper's sentences (section 4.3): downsampling performs better than the resampler, uneven
downsampling better than downsampling, and token merging is the most effective. The paper
keeps 16, 49 and 196 tokens per frame. In the 7B form, a frame has 448 pixels and 784 tokens before
the compressor. In the small world it has 16 tokens, and a compressor keeps 1 or 4 of them. Uneven
downsampling cannot keep 1.
"""

from filax.configs import common as base
from filax.configs.studies import large, small
from filax.configs.studies.common import (
  HELD_OUT,
  add_cell,
  add_column,
  add_questions,
  add_run,
  claim,
  study,
)

TITLES = dict(
  resampler="resampler",
  pixel_shuffle="downsampling",
  uneven="uneven downsampling",
  tome="token merging",
)
ORDER = tuple(TITLES)  # From the worst to the best, by the paper.
LEVELS = (1, 4)
LARGE_LEVELS = (16, 49, 196)
SOURCE = "section 4.3"


def get_config(arg=None):
  arg = base.parse_arg(arg, **{"7b": False, "root": "data", "init": "runs"})
  name = "vcf_table6_7b" if arg["7b"] else "vcf_table6"
  s = study(name, "Compressors of clips", "VideoChat-Flash (arXiv:2501.00574), Table 6.")
  build = _large if arg["7b"] else _small
  columns = build(s, arg)
  present = {cell for cell, _ in s.cells}
  for level in LARGE_LEVELS if arg["7b"] else LEVELS:
    names = [f"{merger}{level}" for merger in ORDER if f"{merger}{level}" in present]
    for place, lower in enumerate(names[:-1]):
      for column in columns:
        claim(s, column, names[place + 1], lower, SOURCE)
  return s


def _small(s, _):
  s.data = dict(
    kind="world",
    tasks=("shape", "colour", "digit"),
    held=120,
    held_seconds=(30.0, 60.0),
  )
  see, answer, _ = small.VCF_SECONDS
  for level in LEVELS:
    for merger, part in _small_mergers(level).items():
      name = f"{merger}{level}"
      add_run(s, f"see_{name}", small.vcf_see(merger=part), seconds=see)
      add_run(s, name, small.vcf_answer(64, merger=part), after=f"see_{name}", seconds=answer)
      add_cell(s, name, name, f"{TITLES[merger]}, {level} a frame", seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "all", "held_out", paper="MVBench and VideoMME")
  add_column(s, "digits", "held_out", "kind", "^digit")
  return ("all",)


def _small_mergers(level: int) -> dict[str, dict]:
  mergers = dict(
    resampler=dict(name="resampler", tokens=level, heads=4),
    pixel_shuffle=dict(name="pixel_shuffle", tokens=level),
    tome=dict(name="tome", tokens=level, heads=4),
  )
  if level > 1:
    mergers["uneven"] = dict(name="uneven", tokens=level, first=(3, 3), rest=(1, 2))
  return mergers


def _large(s, arg):
  for level in LARGE_LEVELS:
    for merger in ORDER:
      name = f"{merger}{level}"
      c = large.vcf(arg.init)
      c.model.encoder.variant = "L-448"  # Its 28 x 28 tokens divide into all three numbers.
      c.model.merger = dict(name=merger, tokens=level)
      if merger == "resampler":
        c.optim.rates = (*c.optim.rates, ("^merger/", 1e-5))
      c.data.sampling = large.dynamic(128, 64)
      c.data.rows = (base.row_shape(frames=128, images=40, positions=128 * level + 7680),)
      add_run(s, name, c)
      add_cell(s, name, name, f"{TITLES[merger]}, {level} a frame")
  names = ("mvbench", "videomme")
  large.ask_benchmarks(s, arg.root, names)
  return names
