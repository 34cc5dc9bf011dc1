# SPDX-License-Identifier: Apache-2.0
"""A FiLax checkpoint -> a folder that PyTorch software loads, streamed a parameter at a time."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from filax.checkpoint import streamed
from filax.convert import (
  ConversionError,
  config_in,
  config_out,
  safetensors_writer,
  tensor_plan,
  torch_files,
  whole_folder,
)
from filax.convert import tensor_map as places
from filax.convert.formats import FORMATS, Format
from filax.convert.import_folder import EXTRA, TOKENIZER_FILES
from filax.convert.report import Report
from filax.convert.tensor_map import Place
from filax.models import components

PLACEHOLDERS = ("<image>", "<video>")
EXPORT_KIT = Path(__file__).parent / "export_kit"


@dataclasses.dataclass
class Request:
  """What `filax convert to` was asked for."""

  checkpoint: str | os.PathLike
  out: str | os.PathLike
  format: str = "hf"
  dtype: str = "same"  # same | float32 | bfloat16; the fusion weights stay in float32.
  shard: int = 5 * safetensors_writer.GB  # Bytes of a file at most.
  tokenizer: Any = None  # data_pipelines.text.tokenizers.Tokenizer, or None.
  components: Sequence[str] = ()  # Modules that the checkpoint's config may name.


@dataclasses.dataclass(frozen=True)
class Way:
  """All that is decided before the first byte is written."""

  form: Format
  step: Path
  config: dict[str, Any]
  places: list[Place]  # Of the main files.
  aside: list[Place]  # Of the fusion file.
  stored: Mapping[str, Any]  # path -> shape and dtype in the checkpoint.
  digests: Mapping[str, int]
  dtype: np.dtype | None  # None: as stored.

  def kind(self, place: Place) -> np.dtype:
    """The dtype in which a parameter is written."""
    stored = np.dtype(self.stored[place.path].dtype)
    return stored if self.dtype is None or place.path.startswith("merger/") else self.dtype

  @property
  def name(self) -> str:
    """The dtype of most of the weights."""
    kinds = [self.kind(place).name for place in self.places]
    return max(sorted(set(kinds)), key=kinds.count)


def convert(request: Request, check=None) -> dict[str, Any]:
  """Writes the folder and returns the report; `check(folder, format, model)` may refuse it.

  Raises ConversionError, ValueError or OSError with nothing left under the name of `out`.
  """
  way = resolve(request)
  vocabulary = vocabulary_of(request.tokenizer)
  report = Report(
    "to",
    checkpoint=str(request.checkpoint),
    format=way.form.name,
    scheme=way.form.scheme(way.config["model"]).name,
    model=way.config["model"],
    not_exported=sorted(set(way.stored) - {p.path for p in (*way.places, *way.aside)}),
  )
  specs, extra = announce(way, extras(request.checkpoint, way))
  with whole_folder.complete(request.out, sum(spec.size for spec in specs)) as temporary:
    write(temporary, way, specs, extra, request.shard, report)
    _write_files(temporary, way, request, vocabulary)
    if check is not None:
      report.facts["verify"] = check(temporary, way.form, way.config["model"])
    return report.write(temporary)


def resolve(request: Request) -> Way:
  """Opens the checkpoint and finds the place of everything that goes into the format."""
  if request.format not in FORMATS:
    raise ValueError(f"--format {request.format} is unknown. Choose one of {', '.join(FORMATS)}.")
  form = FORMATS[request.format]
  step = streamed.step_folder(request.checkpoint)
  config = config_in.tuples(streamed.read_json(step, "config"))
  components.check_components(config, request.components, f"The config of {step}")
  if not isinstance(config.get("model"), Mapping):
    raise ValueError(f"The config of {step} has no section 'model'.")
  for role in components.ROLES:
    if role in config["model"]:
      components.build(role, config["model"][role], out=1)
  form.check(config["model"])
  stored = streamed.shapes(step)
  llm = config["model"].get("llm")
  vocab = components.build("llm", llm).vocab if llm else 0
  roles = (*form.roles, *(() if form.fusion == "none" else ("merger",)))
  wanted = {path: leaf for path, leaf in stored.items() if path.split("/")[0] in roles}
  expected = tensor_plan.parameter_shapes(config["model"], roles)
  if lacking := sorted(set(expected) - set(wanted)):
    raise ConversionError(f"{step} lacks parameters of its config.model", {"missing": lacking})
  found = places.find(config["model"], wanted, vocab)
  fused = [p for p in found if p.path.startswith("merger/") and form.fusion == "aside"]
  kind = None if request.dtype == "same" else torch_files.BY_NAME[request.dtype]
  return Way(
    form,
    step,
    config,
    [p for p in found if p not in fused],
    fused,
    stored,
    streamed.read_json(step, "data")["digests"],
    kind,
  )


def vocabulary_of(tokenizer: Any) -> config_out.Vocabulary | None:
  """The plain ids of a tokenizer; None without one."""
  if tokenizer is None:
    return None
  return config_out.Vocabulary(
    tokenizer.vocab_size, tokenizer.pad_id, tuple(tokenizer.stop_ids), dict(tokenizer.controls)
  )


def extras(checkpoint: str | os.PathLike, way: Way) -> dict[str, np.ndarray]:
  """Canonical name -> tensors that the reader wants and the model does not have.

  Those that were imported lie beside the checkpoint; without them they are made to do nothing.
  """
  step, model = way.step, way.config["model"]
  kept = next(
    (p / EXTRA for p in (Path(checkpoint), step.parent.parent) if (p / EXTRA).exists()), None
  )
  kept = torch_files.safetensors(kept) if kept else {}
  sizes = dict(
    E=components.build("encoder", model["encoder"]).width if "encoder" in model else 0,
    D=components.build("llm", model["llm"]).width if "llm" in model else 0,
  )
  have = {name for place in way.places for name in place.names}
  found = {}
  for role in way.form.extra:
    for name, axis, value in places.part(role, model[role]["name"]).extra:
      name = f"{role}.{name}"
      if name not in have:
        found[name] = (
          kept[name][...,]
          if name in kept and kept[name].shape == (sizes[axis],)
          else np.full(sizes[axis], value, np.float32)
        )
  return found


def announce(way: Way, extra: Mapping[str, np.ndarray]):
  """(specs of all tensors of the main files, extra tensors under their file names)."""
  scheme = way.form.scheme(way.config["model"])
  specs = [
    safetensors_writer.Spec(scheme.file_name(name), group[0].their_shape, way.kind(group[0]))
    for group in places.tensors_of(way.places)
    for name in group[0].names
  ]
  kind = torch_files.BY_NAME[way.name]
  extra = {
    scheme.file_name(name): x.astype(x.dtype if way.dtype is None and x.dtype == kind else kind)
    for name, x in extra.items()
  }
  return specs + [
    safetensors_writer.Spec(name, x.shape, x.dtype) for name, x in extra.items()
  ], extra


def write(
  out: Path,
  way: Way,
  specs: Sequence[safetensors_writer.Spec],
  extra: Mapping[str, np.ndarray],
  limit: int,
  report: Report,
) -> None:
  """Streams the parameters into shards, one at a time, and the fusion weights beside them."""
  scheme = way.form.scheme(way.config["model"])
  with safetensors_writer.Shards(out, specs, limit) as files:
    for group in report.steps(places.tensors_of(way.places)):
      for canonical, x in pieces(way, group):
        name = scheme.file_name(canonical)
        files.put(name, x)
        report.tensor(name, group[0].path, x)
    for name, x in extra.items():
      files.put(name, x)
      report.tensor(name, "", x)
    files.close()
  if way.aside:
    fused = {name.removeprefix("merger."): x for p in way.aside for name, x in pieces(way, [p])}
    model = way.config["model"]
    safetensors_writer.write(
      out / tensor_plan.ASIDE,
      fused,
      dict(
        merger=model["merger"]["name"],
        merge_stage=str(model.get("merge_stage", "vision")),
        scene_size=str(model["selector"].get("size", "")),
      ),
    )
    for name, x in fused.items():
      report.tensor(f"{tensor_plan.ASIDE}:{name}", f"merger/{name.replace('.', '/')}", x)


def pieces(way: Way, group: Sequence[Place]):
  """Yields (canonical name, tensor) of the parameters of a group, each of which is read once.

  A group is one parameter, or those that share a fused tensor. Refuses what is not a number.
  """
  for name, *layers in zip(group[0].names, *(arrays(way, place) for place in group), strict=True):
    parts = [place.layout.write(x, place.vocab) for place, x in zip(group, layers, strict=True)]
    x = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not torch_files.finite(x):
      raise ConversionError("Some weights are not numbers", {"parameters": [group[0].path]})
    yield name, x.astype(way.kind(group[0]), copy=False)


def arrays(way: Way, place: Place) -> Iterator[np.ndarray]:
  """A parameter as the checkpoint has it: its layers in turn, or itself."""
  expected = way.digests.get(f"params/{place.path}")
  if place.stacked:
    yield from streamed.read_layers(way.step, place.path, expected)
  else:
    yield streamed.read(way.step, place.path, expected)


def _write_files(out: Path, way: Way, request: Request, vocabulary) -> None:
  """config.json, tokenizer, processors, generation_config.json and the programs."""
  source = [p for p in (Path(request.checkpoint), way.step.parent.parent) if p.is_dir()]
  for name in TOKENIZER_FILES:
    for here in source:
      if (here / name).is_file() and not (out / name).exists():
        shutil.copy(here / name, out / name)
  if request.tokenizer is not None:
    request.tokenizer.save(out)
  documents = {
    "config.json": way.form.config(
      way.config, way.name, vocabulary, placeholders(way, out, vocabulary)
    )
  }
  if vocabulary is not None:
    if not (out / "generation_config.json").exists():
      documents["generation_config.json"] = config_out.generation(vocabulary)
    if (out / "tokenizer.json").exists() and not (out / "tokenizer_config.json").exists():
      documents["tokenizer_config.json"] = config_out.tokenizer_config(way.config, vocabulary)
  if way.form.processors:
    documents |= config_out.processors(way.config)
  for name, content in documents.items():
    (out / name).write_text(json.dumps(content, indent=2) + "\n")
  for template, name in way.form.files:
    shutil.copy(EXPORT_KIT / template, out / name)


def placeholders(way: Way, out: Path, vocabulary) -> tuple[int, int]:
  """Ids of <image> and <video>: the tokenizer's own, or rows that no token uses."""
  vocab = components.build("llm", way.config["model"]["llm"]).vocab
  known = dict(vocabulary.controls) if vocabulary is not None else {}
  free = vocabulary.tokens if vocabulary is not None else vocab - len(PLACEHOLDERS)
  ids = []
  for name in PLACEHOLDERS:
    if name not in known and free < vocab:
      known[name], free = free, free + 1
    ids.append(known.get(name, known.get("<unk>", vocab - 1)))  # Text has no <unk>.
  if way.form.processors and (out / "tokenizer.json").exists():
    _add_tokens(out / "tokenizer.json", dict(zip(PLACEHOLDERS, ids, strict=True)), vocab)
  return ids[0], ids[1]


def _add_tokens(file: Path, wanted: Mapping[str, int], vocab: int) -> None:
  """Makes a tokenizer.json know the placeholders, if there are rows for them."""
  content = json.loads(file.read_text())
  added = content.setdefault("added_tokens", [])
  have, taken = {t["content"] for t in added}, {t["id"] for t in added}
  for name, id in wanted.items():
    if name not in have and id not in taken and id < vocab:
      added.append(
        dict(
          id=id,
          content=name,
          single_word=False,
          lstrip=False,
          rstrip=False,
          normalized=False,
          special=True,
        )
      )
  added.sort(key=lambda token: token["id"])
  file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
