# SPDX-License-Identifier: Apache-2.0
"""The 7B forms of the studies: the papers' data, models and benchmarks.

`root` is the data folder. It holds the training files, under the names that the configs of the
stages use, and the benchmarks in benchmarks/NAME. `init` is the folder that holds the runs of the
stages before.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from filax.configs import fila_base, fila_stage4, vcf_stage3
from filax.configs.studies.common import add_column, add_questions, add_run, set_merger

SUBSET = "random:20%"  # Of LLaVA-Video-178K, as in the paper's ablations.


def fila(init: str, merger: str = "weighted", stage: str = "vision") -> ConfigDict:
  """FiLA-Video's stage 4 on a fifth of its data: 96 frames merged to 32."""
  c = fila_stage4.get_config()
  set_merger(c, dict(name=merger), stage)
  c.data.train = ((c.data.train[0][0], SUBSET),)
  c.init_from = f"{init}/fila_stage3"
  c.seed = 42
  return c


def fila_unmerged(init: str) -> ConfigDict:
  """FiLA-Base on a fifth of the data: 32 frames."""
  c = fila_base.get_config()
  c.data.train = ((c.data.train[0][0], SUBSET),)
  c.init_from = f"{init}/fila_stage3"
  c.seed = 42
  return c


def vcf(init: str, arg: str = "", stage: str = "vcf_stage2") -> ConfigDict:
  """VideoChat-Flash's stage 3, which starts from the run of another stage.

  arg: the argument of configs/vcf_stage3.py.
  """
  c = vcf_stage3.get_config(arg)
  c.init_from = f"{init}/{stage}"
  return c


def add_vcf(s: ConfigDict, arg: ConfigDict) -> dict:
  """Adds a run of VideoChat-Flash, unless `arg.checkpoint` names a trained model.

  Returns the arguments of `add_cell` that name the model.
  """
  if arg.checkpoint:
    return dict(checkpoint=arg.checkpoint)
  add_run(s, "vcf", vcf(arg.init))
  return dict(run="vcf")


def even(frames: int, size: int = 3) -> dict:
  """config.infer for evenly spaced frames in groups of `size`."""
  return dict(
    selector=dict(name="uniform", size=size),
    sampling=dict(name="uniform", frames=frames, phase="ends"),
  )


def selected(name: str, **options) -> dict:
  """config.infer for 32 scenes of 3 out of 256 candidates."""
  return dict(
    selector=dict(name=name, scenes=32, size=3) | options,
    sampling=dict(name="uniform", frames=256, phase="ends"),
  )


def dynamic(high: int, low: int) -> dict:
  """Samples about one frame per second, at least `low` and at most `high` frames."""
  return dict(name="dynamic_fps", frames=high, low=low, multiple=4, phase="released")


def ask_benchmarks(s: ConfigDict, root: str, names: Sequence[str]) -> None:
  """Adds benchmarks, and for each a column with the score on all its questions."""
  for name in names:
    add_questions(s, name, name, data=f"{root}/benchmarks/{name}", batch=8)
    add_column(s, name, name, paper=name)


def add_durations(s: ConfigDict, groups: Sequence[str]) -> None:
  """Adds columns of VideoMME's groups of duration."""
  for group in groups:
    add_column(s, f"VideoMME {group}", "videomme", "duration_group", group, f"VideoMME {group}")
