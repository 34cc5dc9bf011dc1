# SPDX-License-Identifier: Apache-2.0
"""What decided the plan of a run: compared between processes, and kept for the next start.

The plan's fingerprint alone only says that something changed. The parts behind it (see
filax.parallel.agreement) name the file or the setting.
"""

from collections.abc import Mapping
import functools
import hashlib
import json
import pathlib
from typing import Any
import zlib

from etils import epath
import jax
import numpy as np

from filax import files, settings
from filax.parallel import agreement
from filax.train import workdir as folder

NAME = "plan.checked"
# A host may have these for itself: they decide how fast data comes, not which; or they say where
# files are, whose content is compared.
_OWN = frozenset(
  {
    "data.cache",
    "data.decode_seconds",
    "data.exclude",
    "data.open_seconds",
    "data.prefetch",
    "data.root",
    "data.threads",
    "data.tokenizer",
    "data.train",
    "data.workers",
    "debug_corpus",
    "peak_tflops",
  }
)
_DECIDING = ("config.batch", "config.data.", "config.model.", "config.seed")
_CODE = ("filax", "data_pipelines", "configs")

Parts = Mapping[str, agreement.Part]


def parts(
  config: Mapping[str, Any], steps: int, fingerprint: str, ingredients: Parts
) -> dict[str, dict]:
  """All that must be equal on every process; `ingredients` are those of the pipeline."""
  own = {name: repr(value) for name, value in settings.leaves(config) if name not in _OWN}
  named = {f"config.{name}": text for name, text in own.items()}
  plan = dict(fingerprint=fingerprint, steps=str(steps)) | ingredients.get("plan", {})
  return {"config": named, "software": software(), **ingredients, "plan": plan}


@functools.cache
def software() -> dict[str, str]:
  """Versions of what computes, and a digest of every file of ours."""
  root = pathlib.Path(__file__).parents[2]
  entries = dict(jax=jax.__version__, numpy=np.__version__)
  for name in _CODE:
    for path in sorted((root / name).rglob("*.py")):
      digest = hashlib.sha256(path.read_bytes()).hexdigest()
      entries[str(path.relative_to(root))] = digest[:12]
  return entries


def write(workdir: epath.PathLike, fingerprint: str, now: Parts) -> None:
  """Keeps the parts in the workdir, from process 0. Software may change between starts."""
  if jax.process_index():
    return
  kept = {name: dict(part) for name, part in now.items() if name != "software"}
  content = zlib.compress(json.dumps(dict(fingerprint=fingerprint, parts=kept)).encode())
  path = folder.local(workdir) / NAME
  files.write_checked(path, content)
  folder.publish(workdir, path)


def read(workdir: epath.PathLike) -> dict[str, Any]:
  """fingerprint, parts and media as they were kept; empty where nothing was, or it is damaged."""
  try:
    content = files.read_checked(folder.fetch(workdir, NAME))
    record = json.loads(zlib.decompress(content))
  except (OSError, ValueError, zlib.error):
    record = dict(fingerprint="", parts={})
  return record | dict(media=record["parts"].get("media"))


def changes(workdir: epath.PathLike, fingerprint: str, now: Parts) -> str:
  """What differs from the plan `fingerprint` that was kept, in words; "" where nothing was kept."""
  record = read(workdir)
  if record["fingerprint"] != fingerprint:
    return ""
  sentences = []
  for name, before in record["parts"].items():
    text = agreement.differences(_deciding(before), _deciding(now.get(name, {})))
    if text and name != "plan":
      sentences.append(f"{name}: {text}")
  return "; ".join(sentences)


def _deciding(part: agreement.Part) -> dict[str, str]:
  """A part without the settings that decide no row, such as config.steps."""
  return {
    name: text
    for name, text in part.items()
    if not name.startswith("config.") or name.startswith(_DECIDING)
  }
