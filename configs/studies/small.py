# SPDX-License-Identifier: Apache-2.0
"""The small models and worlds that the studies share.

Two studies in one workdir share a training run if its name, config and data are the same. The
expected seconds are guesses for two CPU cores.
"""

from typing import Any

from ml_collections import ConfigDict

from filax.configs import common, fila_toy, vcf_toy
from filax.configs.studies.common import DATA, add_run, has_run, set_merger

SIZE = fila_toy.SIZE
GROUPS = fila_toy.GROUPS
CANDIDATES = 256
CLIPS = f"{DATA}/clips.json"
TRAIN = f"{DATA}/train.json"
BRIEF = f"{DATA}/train_brief.json"
CAPTIONS = f"{DATA}/captions.json"
THETA = 1e8  # As in configs/vcf_needles.py.
TEXT = 104  # Positions of the longest question with its answers, and of the longest caption.
FILA_SECONDS = (70.0, 190.0)  # To train seeing, and answering.
VCF_SECONDS = (110.0, 310.0, 60.0)  # To train seeing, answering, and 300 steps more.
LOOK_UP_SECONDS = 500.0


def uniform(frames: int, size: int = SIZE) -> dict:
  """config.infer for evenly spaced frames in groups of `size`."""
  return dict(
    selector=dict(name="uniform", size=size),
    sampling=dict(name="uniform", frames=frames, phase="ends"),
  )


def scenes(history: str = "similar") -> dict:
  """config.infer for K-Means scenes out of 256 candidates."""
  selector = dict(name="kmeans", scenes=GROUPS, size=SIZE, history=history, seeds="farthest")
  return dict(
    selector=selector | dict(steps=30),
    sampling=dict(name="uniform", frames=CANDIDATES, phase="ends"),
  )


def matched() -> dict:
  """config.infer for scenes by bipartite matching out of 256 candidates."""
  return dict(
    selector=dict(name="bsm", scenes=GROUPS, size=SIZE),
    sampling=dict(name="uniform", frames=CANDIDATES, phase="ends"),
  )


def fila_see() -> ConfigDict:
  """Learns to see: captions of single frames, as the paper's stages of pictures."""
  c = fila_toy.get_config(f"stage=1,corpus={DATA}")
  c.model.selector = dict(name="uniform", size=1)
  set_merger(c, dict(name="mean"))
  c.infer = c.infer.to_dict() | uniform(GROUPS, 1)
  c.data.train = ((CLIPS, "all"),)
  c.data.sampling.frames = 1
  c.data.rows = (common.row_shape(frames=GROUPS, positions=160, samples=GROUPS),)
  c.steps = 700
  return c


def fila_answer(merger: str = "weighted", stage: str = "vision", frames: int = 0) -> ConfigDict:
  """Learns to answer from 24 frames, which a merger reduces to 8.

  frames: if not 0, the model sees this number of frames instead, and none are merged.
  """
  c = fila_toy.get_config(f"stage=2,corpus={DATA}")
  set_merger(c, dict(name=merger), stage)
  c.data.train = ((TRAIN, "all"),)
  c.data.rows = (common.row_shape(frames=GROUPS * SIZE, positions=GROUPS * 4 + TEXT),)
  c.infer = c.infer.to_dict() | uniform(GROUPS * SIZE)
  c.steps = 2000
  if frames:
    c.model.selector = dict(name="uniform", size=1)
    c.infer = c.infer.to_dict() | uniform(frames, 1)
    c.data.sampling.frames = frames
    c.data.rows = (common.row_shape(frames=frames, positions=frames * 4 + TEXT),)
  return c


def add_fila(s: ConfigDict, name: str, config: ConfigDict) -> None:
  """Adds a run of `fila_answer`, and before it the run of `fila_see`."""
  see, answer = FILA_SECONDS
  if not has_run(s, "see"):
    add_run(s, "see", fila_see(), seconds=see)
  add_run(s, name, config, after="see", seconds=answer)


def vary(s: ConfigDict, *runs: str) -> None:
  """Turns a small study into a variation, in which every seed learns to answer.

  With 4 to 7 scenes in all training videos, some seeds still guess after 2,000 steps. Here some
  training videos have only 1 to 3 scenes, and `runs` train for 2,800 steps.
  """
  _rename_varied(s)
  s.data.joined_scenes = (1, 7)
  for name, run in s.runs:
    if name in runs:
      run["config"]["steps"] = 2800


def vary_vcf(s: ConfigDict, answer: str) -> None:
  """Turns a small study of VideoChat-Flash into a variation that learns to answer.

  In the original studies, most seeds do not learn to look up the scene that a question names. Here
  another run before the run `answer` teaches it with brief videos. In that run the encoder learns,
  too: captions alone do not teach it to show the shape and its background in the same visual token.
  All runs use Muon and a larger rotary theta. In trials, both made the model learn in fewer steps.

  Of the four studies with this variation, only Table 8 was run. There every seed learned.
  """
  _rename_varied(s)
  s.data.brief = 24
  look_up = f"{answer}_look_up"
  runs = []
  for name, run in s.runs:
    run["config"]["optim"]["kind"] = "muon"
    run["config"]["model"]["llm"]["theta"] = THETA
    if name == answer:
      runs.append((look_up, _look_up_run(run)))
      run["after"] = look_up
    runs.append((name, run))
  s.runs = tuple(runs)


def _look_up_run(answer: dict) -> dict:
  """A run that teaches the model of the run `answer` to look up scenes."""
  c = ConfigDict(answer["config"])
  c.data.train = ((BRIEF, "all"),)
  set_frames(c, 16)
  c.optim.rates = (("", 1e-3),)
  c.steps = 3000
  return dict(config=c.to_dict(), after=answer["after"], seconds=LOOK_UP_SECONDS)


def _rename_varied(s: ConfigDict) -> None:
  if not s.data.kind:
    raise ValueError("varied is for the small model. Leave it out, or leave out 7b.")
  s.name = f"{s.name}_varied"


def vcf_see(**model: Any) -> ConfigDict:
  """VideoChat-Flash learns to see: captions of clips of 4 frames."""
  c = vcf_toy.get_config(f"stage=1,corpus={DATA}")
  c.data.train = ((CLIPS, "all"),)
  c = _with_model(c, model)
  frames = 8 * vcf_toy.CLIP  # 8 captions in a row, each of one clip.
  c.data.rows = (
    common.row_shape(frames=frames, positions=frames * c.model.merger.tokens + 160, samples=8),
  )
  return c


def vcf_answer(frames: int = 64, train: str = TRAIN, steps: int = 2000, **model: Any) -> ConfigDict:
  """VideoChat-Flash learns to answer from `frames` frames, with the encoder frozen."""
  c = vcf_toy.get_config(f"stage=2,corpus={DATA}")
  c.data.train = ((train, "all"),)
  c.steps = steps
  c = _with_model(c, model)
  set_frames(c, frames)
  return c


def add_deep(s: ConfigDict) -> dict:
  """Adds a VideoChat-Flash whose language model has 6 layers.

  Returns the arguments of `add_cell` that name its run.
  """
  s.data = dict(kind="world", tasks=("shape", "colour"), held=120, held_seconds=(30.0, 90.0))
  see, answer, _ = VCF_SECONDS
  deep = dict(depth=6)
  add_run(s, "deep_see", vcf_see(llm=deep), seconds=1.4 * see)
  add_run(s, "deep", vcf_answer(64, llm=deep), after="deep_see", seconds=1.6 * answer)
  return dict(run="deep")


def set_frames(c: ConfigDict, high: int, low: int = 0) -> None:
  """Sets the number of frames of a training sample.

  Without `low` it is always `high`. With `low`, a video has one frame per second, at least `low`
  and at most `high`.
  """
  c.data.sampling = dict(name="uniform", frames=high, phase="random")
  if low:
    c.data.sampling = dynamic(high, low)
  tokens = c.model.merger.tokens
  c.data.rows = (common.row_shape(frames=high, positions=high * tokens + TEXT),)
  c.infer.sampling = dict(name="uniform", frames=high, phase="ends")
  c.infer.lengths = (high * tokens + TEXT, 1024)


def dynamic(high: int, low: int) -> dict:
  """Samples about one frame per second, at least `low` and at most `high` frames."""
  return dict(name="dynamic_fps", frames=high, low=low, multiple=4, phase="ends")


def _with_model(c: ConfigDict, parts: dict) -> ConfigDict:
  """The config with other components.

  parts: role (such as "encoder", "merger") -> its settings. Those of "llm" are added to the
  config's own; others replace them.
  """
  for role, part in parts.items():
    if role == "llm":
      c.model.llm.update(part)
    else:
      c.model[role] = part
  return c
