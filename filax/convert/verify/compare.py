# SPDX-License-Identifier: Apache-2.0
"""--verify: the PyTorch side and ours on the same tokens and pixels, one process after the other.

The PyTorch side is stock `transformers` where it knows the files, and takes the llm's config from
the folder itself. Compared are features, visual tokens and logits, without visual dropout; if they
differ too much, every module's output, to name the first that does.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from filax.convert import ConversionError, config_out
from filax.models import components

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # Of max |difference| / max(1, max |value|).
LENGTH, GROUPS = 24, 2  # Tokens of the text, and groups of frames in front of them.
MERGERS = {  # Families that PyTorch can run here, and the mergers that it then knows.
  "llava_onevision": ("weighted", "mean"),
  "llava": ("weighted", "mean"),
  "videochat-flash": ("tome",),
  "qwen2": (),
  "siglip": (),
  "tower": (),
}
WHOLE = {"encoder", "projector", "llm"}
FINAL = ("features", "visual", "logits")  # What is compared before any module is looked at.


def run(
  theirs: Sequence[Mapping[str, Any]],
  checkpoint: Path,
  model: Mapping[str, Any],
  dtype: str = "float32",
  tolerance: float | None = None,
  side: Callable[[str, Path, str], dict[str, np.ndarray]] | None = None,
) -> dict[str, Any]:
  """Compares PyTorch folders with a checkpoint. Returns the figures of the report.

  `theirs`: one dict(path, family, roles) a folder, `model`: config.model, `side`: what runs a side
  (default: `process`). Raises ConversionError naming the first diverging module, ValueError if
  there is nothing to compare.
  """
  side, model = side or process, _without_dropout(model)
  limit = TOLERANCE[dtype] if tolerance is None else tolerance
  known = [part for part in theirs if part["family"] in MERGERS]
  known = [part for part in known if len(part["roles"]) == 1 or WHOLE <= set(part["roles"])]
  with tempfile.TemporaryDirectory() as folder:
    at = Path(folder)
    np.savez(at / "inputs.npz", **inputs(model))
    roles = sorted({role for part in known for role in part["roles"]})
    job = dict(
      theirs=[dict(part, path=str(part["path"])) for part in known],
      model=model,
      roles=roles,
      spelled=config_out.settings(dict(model=model), None)["model"],
      checkpoint=str(checkpoint),
      dtype=dtype,
      splice=any(
        WHOLE <= set(part["roles"]) and model["merger"]["name"] in MERGERS[part["family"]]
        for part in known
      ),
    )
    (at / "job.json").write_text(json.dumps(job))
    reference, ours = side("torch", at, "stages"), side("jax", at, "")
    names = [name for name in FINAL if name in reference and name in ours]
    if not names:
      raise ValueError("--verify has nothing to compare: no file holds an encoder or an llm.")
    found = {name: difference(reference[name], ours[name]) for name in names}
    report = dict(
      dtype=dtype,
      tolerance=limit,
      max_difference=found,
      compared=[part["path"] for part in job["theirs"]],
      not_compared=[str(p["path"]) for p in theirs if p not in known],
    )
    if "logits" in names:
      report |= agreement(reference["logits"], ours["logits"])
    if max(found.values()) <= limit:
      return report
    staged = side("jax", at, "stages")
    raise ConversionError(
      "The converted model differs from its source, so nothing was written",
      {
        "largest differences": [f"{name} {value:.2e}" for name, value in found.items()],
        "first diverging module": [first_diverging(reference, staged, limit)],
      },
    )


def _without_dropout(model: Mapping[str, Any]) -> dict[str, Any]:
  """The model with every visual token in every layer: dropping decides nothing of the weights."""
  return dict(model) | ({"llm": dict(model["llm"], dropout="off")} if "llm" in model else {})


def inputs(model: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Tokens [1 L] and frames [T h w 3], the same every time."""
  rng = np.random.default_rng(0)
  made = {}
  if "llm" in model:
    llm = components.build("llm", model["llm"])
    made["tokens"] = rng.integers(0, llm.vocab, (1, LENGTH)).astype(np.int32)
  if "encoder" in model:
    encoder = components.build("encoder", model["encoder"])
    size = model.get("selector", {}).get("size", 1)
    frames = GROUPS * int(np.lcm(size, encoder.clip))
    made["frames"] = rng.integers(0, 256, (frames, encoder.size, encoder.size, 3)).astype(np.uint8)
  return made


def difference(theirs: np.ndarray, ours: np.ndarray) -> float:
  """max |difference| relative to the largest value, or to 1 if that is smaller."""
  if theirs.shape != ours.shape:
    return float("inf")
  gap = np.abs(theirs.astype(np.float64) - ours).max(initial=0.0)
  gap = gap / max(1.0, float(np.abs(theirs).max(initial=0.0)))
  return float("inf") if np.isnan(gap) else float(gap)


def agreement(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
  """max |Δlogit|, mean KL(theirs || ours) in nats, and the share of equal most likely tokens."""
  theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
  p, q = _log_softmax(theirs), _log_softmax(ours)
  return dict(
    max_logit_difference=float(np.abs(theirs - ours).max()),
    kl=float((np.exp(p) * (p - q)).sum(-1).mean()),
    top1_agreement=float((theirs.argmax(-1) == ours.argmax(-1)).mean()),
  )


def first_diverging(theirs: Mapping, ours: Mapping, limit: float) -> str:
  """The first module, in the order data flows, whose output differs by more than `limit`."""
  for name in theirs:
    if name in ours and (gap := difference(theirs[name], ours[name])) > limit:
      return f"{name} ({gap:.2e})"
  return "none (the modules agree one by one; the difference grows slowly through the layers)"


def _log_softmax(x: np.ndarray) -> np.ndarray:
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def process(side: str, folder: Path, stages: str) -> dict[str, np.ndarray]:
  """Runs one side, torch or jax, in a process of its own and returns what it wrote."""
  out = folder / f"{side}.npz"
  done = subprocess.run(
    [sys.executable, "-m", f"filax.convert.verify.{side}_side", str(folder), str(out), stages],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    raise ValueError(f"--verify could not run the {side} side: {' '.join(last)}")
  with np.load(out) as found:
    return {name: found[name] for name in found.files}


def start(argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, np.ndarray], Path, bool]:
  """(job, inputs, output file, whether every module is asked for) of a side's process."""
  folder, out, stages = Path(argv[1]), Path(argv[2]), argv[3] == "stages"
  with np.load(folder / "inputs.npz") as found:
    arrays = {name: found[name] for name in found.files}
  return json.loads((folder / "job.json").read_text()), arrays, out, stages
