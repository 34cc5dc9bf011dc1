# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Table 5: a video encoder against an image encoder, under two compressors.

  filax study vcf_table5 --workdir runs/studies
  filax study vcf_table5:7b,root=data,init=runs --workdir runs/table5

The paper's sentence (section 4.3): UMT performs better than SigLIP on MVBench, which asks about
actions. Questions about motion stand for it in the small world.
"""

from typing import Any

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

COMPRESSORS = dict(
  tome=("token merging", dict(name="tome", tokens=2, heads=4)),
  shuffle=("downsampling", dict(name="pixel_shuffle", tokens=1)),
)
LARGE_COMPRESSORS = dict(
  tome=("token merging", dict(name="tome", tokens=16)),
  uneven=("uneven downsampling", dict(name="uneven", tokens=16)),
)
SOURCE = "section 4.3"


def get_config(arg=None):
  arg = base.parse_arg(arg, **{"7b": False, "root": "data", "init": "runs"})
  name = "vcf_table5_7b" if arg["7b"] else "vcf_table5"
  s = study(name, "Video and image encoders", "VideoChat-Flash (arXiv:2501.00574), Table 5.")
  build = _large if arg["7b"] else _small
  column, compressors = build(s, arg)
  for compressor in compressors:
    claim(s, column, f"umt_{compressor}", f"siglip_{compressor}", SOURCE)
  return s


def _small(s, _):
  s.data = dict(
    kind="world",
    tasks=("shape", "colour", "motion"),
    held=120,
    held_seconds=(30.0, 60.0),
  )
  see, answer, _ = small.VCF_SECONDS
  for encoder in ("umt", "siglip"):
    for compressor, (title, merger) in COMPRESSORS.items():
      name = f"{encoder}_{compressor}"
      model: dict[str, Any] = dict(
        encoder=dict(name=encoder, variant="toy", remat="none"), merger=merger
      )
      add_run(s, f"see_{name}", small.vcf_see(**model), seconds=see)
      config = small.vcf_answer(64, **model)
      config.optim.rates = (("^encoder/", 5e-4), ("", 2e-3))
      add_run(s, name, config, after=f"see_{name}", seconds=answer)
      add_cell(s, name, name, f"{encoder}, {title}", seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "motion", "held_out", "kind", "^motion", "MVBench")
  add_column(s, "shape and colour", "held_out", "kind", "^(shape|colour)")
  return "motion", COMPRESSORS


def _large(s, arg):
  for encoder in ("umt", "siglip"):
    for compressor, (title, merger) in LARGE_COMPRESSORS.items():
      name = f"{encoder}_{compressor}"
      c = large.vcf(arg.init)
      c.model.merger = merger
      if encoder == "siglip":
        c.model.encoder = dict(name="siglip", variant="so400m-384", remat="auto")
      add_run(s, name, c)
      add_cell(s, name, name, f"{encoder}, {title}")
  large.ask_benchmarks(s, arg.root, ("mvbench", "videomme"))
  return "mvbench", LARGE_COMPRESSORS
