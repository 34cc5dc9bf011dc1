# SPDX-License-Identifier: Apache-2.0
"""A folder that holds exactly what is published of a run."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from data_pipelines.text import tokenizer_folder
from filax import files, released
from filax.checkpoint import safe_files, store
from filax.checkpoint.tuples import as_tuples
from filax.convert.peft_out import CONFIG_FILE as ADAPTER_CONFIG
from filax.evals.results import read_results
from filax.hub.model_card import CardFacts, write_card
from filax.hub.shared_config import shared_config
from filax.infer.session import restore_params
from filax.models.components import build_video_lm, check_components, parameter_shapes
from filax.train import metrics, plan_record
from filax.train.tracker import read_scores

CARD = "README.md"
MARK = ".filax-push"  # In a folder of ours, which may be replaced; never uploaded.
# Of a folder in PyTorch's form. Never: optimizer states, logs, or whatever else lies there.
EXPORTED = (
  "*.safetensors",
  "fila/*.safetensors",  # The weights of a merger, which PyTorch's own classes do not know.
  "*.gguf",
  "*.json",
  "*.model",
  "*.jinja",
  "*.txt",
  "*.py",
)
REPORT = "conversion_report.json"  # Of an export; it names folders of this machine.


@dataclasses.dataclass(frozen=True)
class Published:
  """What a card says besides what the run knows."""

  repo: str
  license_name: str = ""
  base_model: str = ""
  results: tuple[str, ...] = ()  # Folders of evaluations.
  components: tuple[str, ...] = ()  # Modules that the config may name.


@dataclasses.dataclass(frozen=True)
class StagedFile:
  """A file to publish.

  One that is only planned does not exist yet.
  """

  name: str
  size: int


def stage_folder(
  source: str | os.PathLike, out: str | os.PathLike, published: Published, weights: bool
) -> list[StagedFile]:
  """Writes what is published of `source` to the new folder `out`.

  source: a run, one of its checkpoints, or a folder in PyTorch's form (`filax convert to`). With
  `weights`, also the weights of a run, without optimizer state; otherwise their size is only
  counted. Raises ValueError for a folder `out` that holds something else, and for a file that names
  a path of this machine.
  """
  if files.is_bucket(source):
    raise ValueError(f"{source} is in a bucket. Copy it to this machine first.")
  source = pathlib.Path(files.absolute(source))
  out = pathlib.Path(files.absolute(out))
  if not source.exists():
    raise ValueError(f"There is no {source}. Give the folder of a run, or of `filax convert to`.")
  _make_folder(out)
  planned: list[StagedFile] = []
  if released.is_released(source):
    _stage_exported(source, out, published)
  else:
    planned = _stage_run(source, out, published, weights)
  _check_private(out, source)
  staged = []
  for path in sorted(out.rglob("*")):
    if path.is_file() and path.name != MARK:
      staged.append(StagedFile(path.relative_to(out).as_posix(), path.stat().st_size))
  return [*staged, *planned]


def _make_folder(out: pathlib.Path) -> None:
  """Makes an empty folder, or empties that of an earlier push.

  Raises ValueError for another one.
  """
  if (out / MARK).exists():
    shutil.rmtree(out)
  elif out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f"--out {out} is in use. Name a new folder.")
  out.mkdir(parents=True, exist_ok=True)
  (out / MARK).touch()


def _stage_run(
  source: pathlib.Path, out: pathlib.Path, published: Published, weights: bool
) -> list[StagedFile]:
  """Writes card, config, tokenizer and perhaps weights of a run.

  Returns what is only planned.
  """
  config = as_tuples(store.read_config(source))
  check_components(config, published.components, f"The config of {source}")
  shared = shared_config(config)
  model = build_video_lm(config["model"], config["infer"]["selector"])
  shapes = parameter_shapes(model)
  run = _run_folder(source)
  _write_card(run, out, published, shared, _counts(shapes))
  (out / "config.json").write_text(json.dumps(shared, indent=2) + "\n", encoding="utf-8")
  tokenizer = tokenizer_folder.load_if_present(run)
  if tokenizer is not None:  # Of its settings, the chat template and the end tokens alone.
    tokenizer.save(out)
  if not weights:
    size = sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    return [StagedFile(f"{store.FOLDER}/0/...", size)]
  store.save_params(out, restore_params(source, config["model"], model), shared)
  return []


def _stage_exported(source: pathlib.Path, out: pathlib.Path, published: Published) -> None:
  """The files of a folder in PyTorch's form, and a card."""
  if not source.is_dir():
    raise ValueError(f"{source} is a file. Give the folder of a run or of an export.")
  _copy(source, out, EXPORTED)
  if (out / ADAPTER_CONFIG).exists():
    _name_base(out / ADAPTER_CONFIG, published.base_model)
  config = shared_config(released.described_config(source))
  _write_card(source, out, published, config, {})


def _name_base(file: pathlib.Path, base_model: str) -> None:
  """Replaces the path of the base of adapters.

  By its name on the hub, or by the last part of the path.
  """
  settings = safe_files.read_json(file)
  base = base_model or pathlib.PurePath(str(settings.get("base_model_name_or_path") or "")).name
  file.unlink()  # It may be a link to the file of the user.
  file.write_text(
    json.dumps(settings | dict(base_model_name_or_path=base), indent=2) + "\n", encoding="utf-8"
  )


def _write_card(
  run: pathlib.Path,
  out: pathlib.Path,
  published: Published,
  config: Mapping[str, Any],
  parameters: Mapping[str, int],
) -> None:
  newest: dict[str, Any] = {}
  if (run / "metrics.jsonl").exists():
    for record in metrics.read_records(run / "metrics.jsonl"):
      if "loss" in record:
        newest = record
  scores = read_scores(run)
  results = [read_results(folder).result for folder in published.results]
  facts = CardFacts(
    repo=published.repo,
    version=importlib.metadata.version("filax"),
    config=config,
    parameters=parameters,
    record=newest,
    scores=scores[max(scores)] if scores else {},
    results=results,
    fingerprint=plan_record.read_plan(run)["fingerprint"],
    license_name=published.license_name,
    base_model=published.base_model,
    adapters=(out / ADAPTER_CONFIG).exists(),
  )
  (out / CARD).write_text(write_card(facts))


def _run_folder(source: pathlib.Path) -> pathlib.Path:
  """The run of a checkpoint RUN/checkpoints/STEP, or the folder itself."""
  if source.parent.name == store.FOLDER:
    return source.parent.parent
  return source.parent if source.name == store.FOLDER else source


def _counts(shapes: Mapping[str, Any]) -> dict[str, int]:
  """Role -> number of parameters."""
  counts = {}
  for role, tree in shapes.items():
    counts[role] = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
  return counts


def _copy(source: pathlib.Path, out: pathlib.Path, patterns: Sequence[str]) -> None:
  """Links or copies the files of a folder that match.

  Raises ValueError for a link that leads out of the folder.
  """
  for pattern in patterns:
    for path in sorted(source.glob(pattern)):
      target = out / path.relative_to(source)
      if not path.is_file() or target.exists() or path.name == REPORT:
        continue
      _check_inside(source, target.relative_to(out))
      target.parent.mkdir(exist_ok=True)
      try:
        os.link(path.resolve(), target)  # Weights of many gigabytes are not copied.
      except OSError:
        shutil.copyfile(path, target)


def _check_inside(source: pathlib.Path, name: pathlib.Path) -> None:
  """Raises ValueError for a link to another folder's file.

  Whoever made the folder may have chosen the file.
  """
  try:
    safe_files.inside(source, str(name))
  except safe_files.MalformedFile as error:
    raise ValueError(
      f"In {source}, {error}. If it is to be published, put the file itself there, or else remove "
      "the link; nothing was uploaded."
    ) from error


def _check_private(out: pathlib.Path, source: pathlib.Path) -> None:
  """Raises ValueError for a file that names this run's or user's folder."""
  secrets = {str(source), os.path.expanduser("~"), os.getcwd()}
  secrets = {text for text in secrets if len(text) > 5}  # "/root" is a word of tokenizers.
  for path in sorted(out.rglob("*")):
    if not path.is_file() or path.stat().st_size > 1 << 20:
      continue
    content = path.read_bytes()
    for text in sorted(secrets):
      if text.encode() in content:
        raise ValueError(
          f"{path.relative_to(out)} names {text}, a path of this machine. Remove it there; nothing "
          "was uploaded."
        )
