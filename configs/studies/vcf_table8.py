# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash, Table 8: learning from short videos, from long ones, and from both.

  filax study vcf_table8 --workdir runs/studies
  filax study vcf_table8:varied --workdir runs/studies  # Trained as `small.vary_vcf` says.
  filax study vcf_table8:7b,root=data,init=runs --workdir runs/table8

The paper's sentences (section 4.3): pre-training on short videos improves short and long videos,
and instructions about both improve long videos further, while short ones keep their level. (The
last statement is not about an order, so the study has no claim for it.) All runs with instructions
take the same number of steps.
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

SOURCE = "section 4.3"
TITLES = dict(
  short="pre-training; short videos",
  long="pre-training; long videos",
  both="pre-training; both",
  both_alone="no pre-training; both",
)
FRAMES = 64
BRIEF_FRAMES = 16


def get_config(arg=None):
  known = {"7b": False, "root": "data", "init": "runs", "varied": False}
  arg = base.parse_arg(arg, **known)
  name = "vcf_table8_7b" if arg["7b"] else "vcf_table8"
  s = study(name, "Short to long", "VideoChat-Flash (arXiv:2501.00574), Table 8.")
  short, long = _large(s, arg) if arg["7b"] else _small(s)
  if arg.varied:
    small.vary_vcf(s, "vcf_pretrained")
    _ask_more_about_brief_videos(s)
  for column in (short, long):
    claim(s, column, "both", "both_alone", SOURCE)
  claim(s, long, "both", "short", SOURCE)
  return s


def _small(s):
  s.note = "Brief videos last 30 to 45 s, long ones 100 to 180 s."
  s.data = dict(
    kind="world",
    tasks=("shape", "colour"),
    held=160,
    held_seconds=(30.0, 180.0),
    length_bounds=(45.0, 100.0),
    brief=24,
  )
  see, answer, _ = small.VCF_SECONDS
  add_run(s, "vcf_see", small.vcf_see(), seconds=see)
  brief = small.vcf_answer(BRIEF_FRAMES, train=small.BRIEF, steps=1200)
  add_run(s, "vcf_pretrained", brief, after="vcf_see", seconds=answer / 3)
  trains = dict(short=(small.BRIEF,), long=(small.TRAIN,), both=(small.BRIEF, small.TRAIN))
  for cell, title in TITLES.items():
    c = small.vcf_answer(FRAMES, steps=800)
    manifests = trains[cell.removesuffix("_alone")]
    c.data.train = tuple((manifest, "all") for manifest in manifests)
    before = "vcf_see" if cell == "both_alone" else "vcf_pretrained"
    add_run(s, f"vcf_{cell}", c, after=before, seconds=answer / 2)
    add_cell(s, cell, f"vcf_{cell}", title, seconds=15.0)
  add_questions(s, "held_out", HELD_OUT)
  add_column(s, "brief videos", "held_out", "kind", "/Short$", "MVBench")
  add_column(s, "long videos", "held_out", "kind", "/Long$", "MLVU")
  return "brief videos", "long videos"


def _ask_more_about_brief_videos(s):
  """Asks 606 questions about brief videos; the original study asks 68."""
  s.note = "Brief videos last 30 to 75 s, long ones 100 to 180 s."
  s.data.held = 240
  s.data.length_bounds = (75.0, 100.0)


def _large(s, arg):
  parts = dict(short=("short",), long=("long",), both=("short", "long"))
  for cell, title in TITLES.items():
    stage = "vcf_stage1" if cell == "both_alone" else "vcf_stage2"
    c = large.vcf(arg.init, stage=stage)
    names = parts[cell.removesuffix("_alone")]
    c.data.train = tuple((f"{arg.root}/vcf_stage3_{name}.json", "all") for name in names)
    add_run(s, cell, c)
    add_cell(s, cell, cell, title)
  names = ("mvbench", "mlvu")
  large.ask_benchmarks(s, arg.root, names)
  return names
