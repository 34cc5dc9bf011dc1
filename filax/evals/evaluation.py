# SPDX-License-Identifier: Apache-2.0
"""A prepared evaluation: its questions, its model and all settings."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

from etils import epath

from filax import files
from filax.checkpoint import base
from filax.evals import context, hashes, questions, registry, rows, settings_record
from filax.evals.kit import Benchmark, Example, NamedProtocol, Source
from filax.evals.options import EvaluationOptions, Share, share_of
from filax.evals.registry import (
  MANIFEST,
  check_manifest,
  find_benchmark,
  find_protocol,
  is_benchmark,
)
from filax.infer.answer_settings import check_answer_settings
from filax.infer.loaded import LoadedModel

VCF_ENCODERS = ("umt", "internvideo2")
VCF_MERGERS = ("tome",)


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
  """What is asked, how, and of which model."""

  name: str
  benchmark: Benchmark
  protocol_name: str
  protocol: NamedProtocol
  loaded: LoadedModel
  settings: Mapping[str, Any]  # Arguments of `generate`.
  options: EvaluationOptions
  share: Share
  source: Source
  examples: list[Example]
  missing: list[str]  # Media and files of prompts that do not exist.
  hashes: Mapping[str, Any]

  def identity(self) -> dict[str, Any]:
    """What the answers depend on: a restart must not change it."""
    private = registry.private_file(self.name)
    code = dict(benchmark_code=hashes.annotation_hash(private)) if private else {}
    return dict(
      benchmark=self.name,
      protocol=self.protocol_name,
      protocol_version=self.protocol.version,
      checkpoint=self.hashes["checkpoint"],
      annotations=self.hashes["annotations"],
      blind=self.options.blind,
      limit=self.options.limit,
      **code,
      **settings_record.answer_settings(self.loaded, self.settings),
    )


def prepare(
  loaded: LoadedModel, manifest_or_benchmark: str | os.PathLike, options: EvaluationOptions
) -> Evaluation:
  """Reads the questions and checks what can be checked.

  Raises ValueError, in one sentence, if the questions cannot be asked.
  """
  name, benchmark, source = _find_questions(manifest_or_benchmark, options)
  rows.report_columns(benchmark)
  protocol_name, protocol = find_protocol(benchmark, options.protocol, protocol_family(loaded))
  examples = questions.read_questions(benchmark, source, options.limit)
  if protocol.arrange is not None:
    examples = list(map(protocol.arrange, examples))
  missing = questions.missing_media(examples)
  if protocol.files is not None:
    missing += questions.missing_files(examples, protocol.files)
  if not options.allow_missing:
    questions.check_missing(missing, len(examples), source.root or source.data)
  loaded = with_frames(loaded, benchmark, options)
  new_tokens = options.max_new_tokens
  if new_tokens is None:
    new_tokens = protocol.max_new_tokens
  settings = loaded.processor.settings(max_new_tokens=new_tokens)
  names = ("max_new_tokens", "temperature", "top_p")
  check_answer_settings(**{name: settings[name] for name in names})
  if any(timeline[0].kind != "image" for example in examples for timeline in example.media):
    context.check_sampling(loaded, settings["max_new_tokens"])
  annotations = {path: hashes.annotation_hash(path) for path in source.annotations}
  digests = dict(checkpoint=step_hash(loaded.processor.step), annotations=annotations)
  return Evaluation(
    name=name,
    benchmark=benchmark,
    protocol_name=protocol_name,
    protocol=protocol,
    loaded=loaded,
    settings=settings,
    options=options,
    share=share_of(loaded, options.process),
    source=source,
    examples=examples,
    missing=missing,
    hashes=digests,
  )


def step_hash(step: str) -> str:
  """A digest of the checkpoint of one step; "" without one.

  In a bucket, it is that of its record.
  """
  if files.is_bucket(step):
    return base.checkpoint_hash(epath.Path(step))
  return hashes.checkpoint_hash(step)


def _find_questions(
  manifest_or_benchmark: str | os.PathLike, options: EvaluationOptions
) -> tuple[str, Benchmark, Source]:
  """(name, benchmark, its files) of a name or path."""
  name = os.fspath(manifest_or_benchmark)
  if is_benchmark(name):
    benchmark = find_benchmark(name)
    source = questions.benchmark_source(options.data, name, benchmark, options.root)
  else:
    benchmark = find_benchmark(MANIFEST)
    source = Source(check_manifest(name), options.root)
    name = MANIFEST
  source.allow_missing = options.allow_missing
  return name, benchmark, source


def protocol_family(loaded: LoadedModel) -> str:
  """The usual protocols of a model: vcf or lmms-eval."""
  encoder = _component_name(loaded.model.encoder)
  merger = _component_name(loaded.model.merger)
  return "vcf" if encoder in VCF_ENCODERS or merger in VCF_MERGERS else "lmms-eval"


def _component_name(component: object) -> str:
  """The name of a component's file."""
  _, _, name = type(component).__module__.rpartition(".")
  return name


def with_frames(
  loaded: LoadedModel, benchmark: Benchmark, options: EvaluationOptions
) -> LoadedModel:
  """The model with the evaluation's frames and selector."""
  frames = options.frames
  if frames is None:
    frames = benchmark.frames or None
  loaded = loaded.adjusted(frames=frames)
  return loaded if options.selector is None else loaded.with_selector(options.selector)
