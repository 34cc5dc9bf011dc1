# SPDX-License-Identifier: Apache-2.0
"""--verify: compares PyTorch with FiLax on the same inputs.

Both get the same tokens and pixels, one process after the other. The PyTorch side is stock
`transformers` where it supports the files, and takes the llm's config from the folder itself.
Features, visual tokens and logits are compared, without visual dropout. If they differ too much,
every module's output is compared, to name the first diverging module.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from filax.convert import ConversionError, config_out
from filax.disk_errors import naming_temporary_folder
from filax.models import components

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # For max |difference| / max(1, max |value|).
LENGTH = 24  # Tokens of the text.
GROUPS = 2  # Groups of frames in front of them.
MERGERS = {  # Families that PyTorch can run here, and their supported mergers.
  "llava_onevision": ("weighted", "mean"),
  "llava": ("weighted", "mean"),
  "videochat-flash": ("tome",),
  "qwen2": (),
  "qwen3": (),
  "llama": (),
  "siglip": (),
  "tower": (),
}
WHOLE = {"encoder", "projector", "llm"}
FINAL = ("features", "visual", "logits")  # Outputs compared before any module's.

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class PyTorchPart:
  """A PyTorch folder or file.

  `family` is a key of MERGERS, or "".
  """

  path: str | os.PathLike
  family: str
  roles: tuple[str, ...]

  @property
  def is_whole_model(self) -> bool:
    """Whether it has encoder, projector and llm."""
    return WHOLE <= set(self.roles)

  @property
  def can_run(self) -> bool:
    """Whether PyTorch can run this part.

    True for a whole model, or one component.
    """
    return self.family in MERGERS and (len(self.roles) == 1 or self.is_whole_model)


def compare_models(
  parts: Sequence[PyTorchPart],
  checkpoint: Path,
  model: Mapping[str, Any],
  dtype: str = "float32",
  tolerance: float | None = None,
  run_side: Callable[[str, Path, str], Arrays] | None = None,
) -> dict[str, Any]:
  """Compares PyTorch folders with a checkpoint.

  Returns the figures of the report. `model`: config.model, `run_side`: runs a side (default:
  `run_side_process`). Raises ConversionError naming the first diverging module, ValueError if there
  is nothing to compare.
  """
  run_side = run_side or run_side_process
  limit = TOLERANCE[dtype] if tolerance is None else tolerance
  model = _without_dropout(model)
  runnable = []
  other_paths = []
  for part in parts:
    if part.can_run:
      runnable.append(part)
    else:
      other_paths.append(str(part.path))
  with naming_temporary_folder(), tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    write_arrays(folder / "inputs.npz", random_inputs(model))
    job = _job(runnable, checkpoint, model, dtype)
    (folder / "job.json").write_text(json.dumps(job))
    reference = run_side("torch", folder, "stages")
    ours = run_side("jax", folder, "")
    names = [name for name in FINAL if name in reference and name in ours]
    if not names:
      raise ValueError("--verify has nothing to compare: no file holds an encoder or an llm.")
    differences = {name: relative_difference(reference[name], ours[name]) for name in names}
    report = dict(
      dtype=dtype,
      tolerance=limit,
      max_difference=differences,
      compared=[str(part.path) for part in runnable],
      not_compared=other_paths,
    )
    if "logits" in names:
      report |= logit_agreement(reference["logits"], ours["logits"])
    if max(differences.values()) <= limit:
      return report
    staged = run_side("jax", folder, "stages")
  problems = {
    "largest differences": [f"{name} {value:.2e}" for name, value in differences.items()],
    "first diverging module": [first_diverging(reference, staged, limit)],
  }
  summary = "The converted model differs from its source, so nothing was written"
  if dtype == "float32" and max(differences.values()) <= TOLERANCE["bfloat16"]:
    summary += " (weights that --dtype bfloat16 rounds are compared by --verify bfloat16)"
  raise ConversionError(summary, problems)


def _job(
  parts: Sequence[PyTorchPart],
  checkpoint: Path,
  model: Mapping[str, Any],
  dtype: str,
) -> dict[str, Any]:
  """The job for both sides, as JSON."""
  theirs = []
  roles: set[str] = set()
  splice = False  # Whether visual tokens are inserted into the text.
  for part in parts:
    theirs.append(dict(path=str(part.path), roles=part.roles, family=part.family))
    roles.update(part.roles)
    if part.is_whole_model and model["merger"]["name"] in MERGERS[part.family]:
      splice = True
  return dict(
    theirs=theirs,
    model=model,
    roles=sorted(roles),
    spelled=config_out.spelled_model(model),
    checkpoint=str(checkpoint),
    dtype=dtype,
    splice=splice,
  )


def _without_dropout(model: Mapping[str, Any]) -> dict[str, Any]:
  """The model without visual dropout.

  Dropout has no parameters to verify.
  """
  model = dict(model)
  if "llm" in model:
    model["llm"] = dict(model["llm"], dropout="off")
  return model


def random_inputs(model: Mapping[str, Any]) -> Arrays:
  """Random tokens and frames with a fixed seed.

  tokens [1 L], frames [T h w 3].
  """
  rng = np.random.default_rng(0)
  arrays = {}
  if "llm" in model:
    llm = components.build("llm", model["llm"])
    arrays["tokens"] = rng.integers(0, llm.vocab, (1, LENGTH)).astype(np.int32)
  if "encoder" in model:
    encoder = components.build("encoder", model["encoder"])
    group_size = model.get("selector", {}).get("size", 1)
    count = GROUPS * int(np.lcm(group_size, encoder.clip))
    frames = rng.integers(0, 256, (count, encoder.size, encoder.size, 3))
    arrays["frames"] = frames.astype(np.uint8)
  return arrays


def relative_difference(theirs: np.ndarray, ours: np.ndarray) -> float:
  """Largest difference relative to the largest value.

  max |difference| / max(1, max |value|).
  """
  if theirs.shape != ours.shape:
    return float("inf")
  gap = np.abs(theirs.astype(np.float64) - ours).max(initial=0.0)
  scale = max(1.0, float(np.abs(theirs).max(initial=0.0)))
  difference = float(gap / scale)
  return float("inf") if np.isnan(difference) else difference


def logit_agreement(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
  """max |Δlogit|, mean KL(theirs || ours) in nats, and top-1 agreement."""
  theirs = theirs.astype(np.float64)
  ours = ours.astype(np.float64)
  log_p = _log_softmax(theirs)
  log_q = _log_softmax(ours)
  kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
  same_token = theirs.argmax(-1) == ours.argmax(-1)
  return dict(
    max_logit_difference=float(np.abs(theirs - ours).max()),
    kl=float(kl.mean()),
    top1_agreement=float(same_token.mean()),
  )


def first_diverging(
  theirs: Mapping[str, np.ndarray],
  ours: Mapping[str, np.ndarray],
  limit: float,
) -> str:
  """The first module whose output differs by more than `limit`."""
  for name in theirs:
    if name not in ours:
      continue
    difference = relative_difference(theirs[name], ours[name])
    if difference > limit:
      return f"{name} ({difference:.2e})"
  return "none (the modules agree one by one; the difference grows slowly through the layers)"


def _log_softmax(x: np.ndarray) -> np.ndarray:
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def run_side_process(side: str, folder: Path, stages: str) -> Arrays:
  """The outputs of one side, run in a separate process.

  `side` is torch or jax.
  """
  out = folder / f"{side}.npz"
  module = f"filax.convert.verify.{side}_side"
  process = subprocess.run(
    [sys.executable, "-m", module, str(folder), str(out), stages],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  if process.returncode:
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    raise ValueError(f"--verify could not run the {side} side: {' '.join(lines[-1:])}")
  return _load_arrays(out)


def read_job(argv: Sequence[str]) -> tuple[dict[str, Any], Arrays, Path, bool]:
  """(job, inputs, output file, whether to record every module)."""
  folder = Path(argv[1])
  out = Path(argv[2])
  job = json.loads((folder / "job.json").read_text())
  return job, _load_arrays(folder / "inputs.npz"), out, argv[3] == "stages"


def write_arrays(file: Path, arrays: Arrays) -> None:
  """Writes arrays by name, as an .npz file."""
  np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes a name for allow_pickle.


def _load_arrays(file: Path) -> Arrays:
  with np.load(file) as content:
    return {name: content[name] for name in content.files}
