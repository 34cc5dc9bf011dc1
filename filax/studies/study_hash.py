# SPDX-License-Identifier: Apache-2.0
"""Hashes of what a run or a cell depends on.

Settings that change only speed or logs are left out. In place of the path of generated data, the
hash covers the recipe of the data, so it does not depend on the folder.
"""

from collections.abc import Mapping
import copy
import hashlib
import json
from typing import Any

from filax.evals.hashes import checkpoint_hash
from filax.studies.design import QuestionSet, StudyCell, StudyDesign, TrainedRun

SHORT = 8  # Digits of a hash in a folder's name.
_SPEED_ONLY = (
  ("", ("log_every", "checkpoint_every", "keep", "stall_seconds", "profile", "peak_tflops")),
  ("data", ("cache", "threads", "workers", "prefetch", "open_seconds", "decode_seconds")),
  ("infer", ("lengths",)),
)
# Settings that came later count only if they are on: hashes of finished cells stay as they were.
_OFF = (("data", "position_gaps", 0),)


def run_hash(design: StudyDesign, run: str, seed: int) -> str:
  """The hash of a run's data and of its chain's configs."""
  configs = [_lasting_settings(part) for part in design.chain(run)]
  return digest_of(dict(data=dict(design.data), configs=configs, seed=seed))


def cell_hash(design: StudyDesign, cell: StudyCell, seed: int) -> str:
  """The hash of a cell's source and of what it is asked."""
  if cell.run:
    source = run_hash(design, cell.run, seed)
  else:  # A folder that has moved is still the same checkpoint.
    source = checkpoint_hash(cell.checkpoint) or cell.checkpoint
  questions = [_asked(questions) for questions in design.questions.values()]
  return digest_of(
    dict(
      source=source,
      data=dict(design.data),
      infer=dict(cell.infer),
      dropout=cell.dropout,
      blind=cell.blind,
      questions=questions,
    )
  )


def data_hash(design: StudyDesign) -> str:
  """The hash of the recipe of a study's data."""
  return digest_of(dict(design.data))


def digest_of(value: Any) -> str:
  """The sha256 of a value as JSON with sorted keys."""
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()


def _lasting_settings(run: TrainedRun) -> dict[str, Any]:
  """The config of a run without settings of speed and logs."""
  config = copy.deepcopy(dict(run.config))
  for section, names in _SPEED_ONLY:
    settings = config.get(section, {}) if section else config
    for name in names:
      settings.pop(name, None)
  for section, name, off in _OFF:
    settings = config.get(section, {})
    if settings.get(name) == off:
      del settings[name]
  return config


def _asked(questions: QuestionSet) -> Mapping[str, Any]:
  """What the answers to a set of questions depend on."""
  return dict(
    name=questions.name,
    manifest=questions.manifest,
    protocol=questions.protocol,
    limit=questions.limit,
  )
