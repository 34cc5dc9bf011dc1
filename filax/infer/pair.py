# SPDX-License-Identifier: Apache-2.0
"""Deprecated functions of (model, params), replaced by sessions."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, Self, TypeVar, cast
import warnings

from data_pipelines.text.tokenizers import Tokenizer
from filax.infer import generate as generate_lib
from filax.infer.chat import Conversation
from filax.infer.generate import Generated
from filax.infer.loaded import LoadedModel
from filax.infer.processor import Processor
from filax.infer.scenes import SelectedScene, find_scenes
from filax.infer.video import DecodedVideo, VideoSource
from filax.models.video_lm import VideoLM

_Function = TypeVar("_Function", bound=Callable)


class PairedModel(VideoLM):
  """A VideoLM that carries its processor; sessions unpack into it.

  Only the functions of this file read the processor; compiled functions get a plain VideoLM.
  """

  processor: Any = None

  @classmethod
  def of(cls, model: VideoLM, processor: Processor) -> Self:
    """The same model with a processor."""
    return cls(**_video_lm_fields(model), processor=processor)


def loaded_from_pair(model: VideoLM, params: Mapping) -> LoadedModel:
  """The loaded model behind a pair.

  Raises ValueError if the model has no processor.
  """
  processor = _processor(model)
  if processor is None:
    raise ValueError(
      "This model has no processor, so it cannot read videos and words. Get it from "
      "filax.load(checkpoint)."
    )
  return LoadedModel(_plain(model), params, processor)


def warn_of_pair(name: str, instead: str) -> None:
  """Warns the caller of a deprecated function."""
  warnings.warn(
    f"filax.{name}(model, params, ...) goes in the next release. Take "
    f"session = filax.load(checkpoint) and call {instead}.",
    DeprecationWarning,
    stacklevel=3,
  )


def chat(
  model: VideoLM,
  params: Mapping,
  video: VideoSource,
  question: str,
  *,
  seed: int = 0,
  **settings,
) -> str:
  """Deprecated: session.ask(video, question)."""
  warn_of_pair("chat", "session.ask(video, question)")
  conversation = Conversation(loaded_from_pair(model, params), video)
  return conversation.ask(question, seed=seed, **settings).text


def scenes(
  model: VideoLM,
  params: Mapping,
  video: VideoSource,
  count: int | None = None,
  *,
  selector: str | None = None,
) -> list[SelectedScene]:
  """Deprecated: session.scenes(video)."""
  warn_of_pair("scenes", "session.scenes(video)")
  if selector is None and isinstance(video, DecodedVideo) and _processor(model) is None:
    return find_scenes(_loaded_without_processor(model, params, video), video, count)
  return find_scenes(loaded_from_pair(model, params), video, count, selector=selector)


def _loaded_without_processor(model: VideoLM, params: Mapping, video: DecodedVideo) -> LoadedModel:
  """A model that selects among the frames of `video`, without text."""
  sampling = dict(frames=len(video.frames))
  no_tokenizer = cast(Tokenizer, None)  # Selecting scenes encodes no text.
  processor = Processor(no_tokenizer, data={}, infer=dict(sampling=sampling))
  return LoadedModel(model, params, processor)


def generate(
  model: VideoLM, params: Mapping, prompts: Sequence[Sequence[int]], **options
) -> Generated:
  """Deprecated: session.generate(prompts), or filax.infer.generate for other models."""
  warn_of_pair("generate", "session.generate(prompts)")
  processor = _processor(model)
  mesh = None if processor is None else processor.mesh
  return generate_lib.generate(_plain(model), params, prompts, mesh=mesh, **options)


def also_of_pair(function: _Function) -> _Function:
  """Decorates a session's function to also accept (model, params).

  Such a call gives a deprecation warning. Type checkers know the function of a session alone.
  """

  def with_pair(model: VideoLM, params: Mapping, *args, **options):
    return function(loaded_from_pair(model, params), *args, **options)

  @functools.wraps(function)
  def call(*args, **options):
    first = args[0] if args else options.get("model")
    if not isinstance(first, VideoLM):
      return function(*args, **options)
    name = function.__name__
    warn_of_pair(name, f"filax.{name}(session, ...)")
    return with_pair(*args, **options)

  return cast(_Function, call)


def _processor(model: VideoLM) -> Processor | None:
  return model.processor if isinstance(model, PairedModel) else None


def _plain(model: VideoLM) -> VideoLM:
  """The model without a processor."""
  return VideoLM(**_video_lm_fields(model)) if isinstance(model, PairedModel) else model


def _video_lm_fields(model: VideoLM) -> dict[str, Any]:
  """The arguments that VideoLM was built with."""
  arguments = {}
  for field in dataclasses.fields(VideoLM):
    if field.init and field.name not in ("parent", "name"):
      arguments[field.name] = getattr(model, field.name)
  return arguments
