# SPDX-License-Identifier: Apache-2.0
"""The settings of an evaluation.

They are part of its result, and decide whether stored answers can be continued.
"""

from collections.abc import Mapping
import json
import os
from typing import Any

import av

from filax.checkpoint import averages
from filax.evals import context
from filax.infer.loaded import LoadedModel
from filax.models import quantised

ABSENT = "nothing"  # A setting that only one of two records has.


def described_settings(
  loaded: LoadedModel, settings: Mapping[str, Any], batch: int
) -> dict[str, Any]:
  """The settings that a result names; `settings` are those of `generate`."""
  processor = loaded.processor
  model = loaded.model
  sampling = processor.sampling
  mesh = processor.mesh
  described = dict(
    frames=sampling.get("frames"),
    fps=sampling.get("fps"),
    selector=processor.infer["selector"]["name"],
    tokens_per_frame=context.tokens_per_frame(model),
    dropout=_dropout_text(model.llm.dropout),
    dtype=str(model.llm.dtype),
    decoder=decoder_name(),
    max_new_tokens=settings["max_new_tokens"],
    temperature=settings["temperature"],
    batch=batch,
    mesh={} if mesh is None else dict(mesh.shape),
  )
  return described | _quantisation(loaded) | _last_values()


def answer_settings(loaded: LoadedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings of a model that its answers depend on."""
  processor = loaded.processor
  llm = loaded.model.llm
  record = dict(
    selector=dict(processor.infer["selector"]),
    sampling=dict(processor.sampling),
    dropout=_dropout_text(llm.dropout),
    yarn=llm.yarn,
    dtype=str(llm.dtype),
    param_dtype=str(llm.param_dtype),
    max_new_tokens=settings["max_new_tokens"],
    temperature=settings["temperature"],
    top_p=settings["top_p"],
  )
  return json.loads(json.dumps(record | _quantisation(loaded) | _last_values()))


def _last_values() -> dict[str, bool]:
  """Whether averages of the parameters were left aside; {} by default."""
  return dict(average=False) if averages.reads_last_values() else {}


def _quantisation(loaded: LoadedModel) -> dict[str, str]:
  """The kind of codes that stand for kernels; {} without any."""
  kind = quantised.kind_in(loaded.params)
  return dict(quantise=kind) if kind else {}


def _dropout_text(dropout: Any) -> str:
  """A preset's name, or the stages as "layer:kind:ratio,..."."""
  if isinstance(dropout, str):
    return dropout
  stages = [":".join(map(str, stage)) for stage in dropout]
  return ",".join(stages) or "off"


def decoder_name() -> str:
  """The library that decodes videos, with its version."""
  return f"PyAV {av.__version__} (FFmpeg {av.ffmpeg_version_info})"


def portable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings with annotation files by name, without their folders."""
  hashes: dict[str, str] = {}
  for path, digest in settings["annotations"].items():
    name = os.path.basename(path.rstrip("/"))
    hashes[name] = hashes.get(name, "") + digest
  return {**settings, "annotations": hashes}


def asks_more(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
  """Whether the limit of `after` is larger than that of `before`."""
  old = before.get("limit")
  new = after.get("limit")
  return old is not None and (new is None or new > old)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
  """The first setting that differs, with both values; "" if none does."""
  for name in dict.fromkeys((*before, *after)):
    old = before.get(name, ABSENT)
    new = after.get(name, ABSENT)
    if old == new:
      continue
    if isinstance(old, Mapping) and isinstance(new, Mapping):
      return f"{name} {difference(old, new)}"
    return f"{name} was {_value_text(old)} and is {_value_text(new)}"
  return ""


def _value_text(value: Any) -> str:
  return value if isinstance(value, str) and value else json.dumps(value)
