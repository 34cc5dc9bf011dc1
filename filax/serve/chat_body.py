# SPDX-License-Identifier: Apache-2.0
"""Reads the body of /v1/chat/completions, in OpenAI's form."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from filax.infer.answer_settings import check_answer_settings
from filax.serve.frame_fields import SPELLINGS, frame_settings, other_fields
from filax.serve.json_numbers import is_number
from filax.serve.limits import ServingLimits
from filax.serve.requests import (
  IMAGE,
  VIDEO,
  AnswerRequest,
  AnswerSettings,
  ChatMessage,
  FrameSettings,
  Medium,
  RequestError,
)

PICTURES_OF_A_VIDEO = 4  # So many pictures in a row are a video, unless the request says otherwise.
_ROLES = dict(system="system", developer="system", user="user", assistant="assistant")
_MEDIA_PARTS = dict(video_url=VIDEO, image_url=IMAGE, input_video=VIDEO, input_image=IMAGE)

# Field -> the setting of answers, and its type.
_NUMBERS: Mapping[str, tuple[str, type]] = dict(
  max_tokens=("max_new_tokens", int),
  max_completion_tokens=("max_new_tokens", int),
  max_new_tokens=("max_new_tokens", int),
  temperature=("temperature", float),
  top_p=("top_p", float),
  top_k=("top_k", int),
  min_p=("min_p", float),
  repetition_penalty=("repetition_penalty", float),
  seed=("seed", int),
  n=("answers", int),
)
_OTHERS = (
  *("model", "messages", "stream", "stream_options", "stop", "stop_strings"),
  *("selector", "dropout", "images_as_video", "uuid", "multi_modal_uuids"),
  *("media_io_kwargs", "mm_processor_kwargs", "chat_template_kwargs", *SPELLINGS),
  *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
)
# Values of other fields that ask for what this server does anyway.
_WITHOUT_EFFECT: Mapping[str, Any] = dict(
  response_format={"type": "text"},
  tool_choice="none",
  modalities=["text"],
  best_of=1,
  top_logprobs=0,
)
_SEEDS = 1 << 32
_MOST_PARTS = 10_000  # Messages and their parts.


@dataclasses.dataclass(frozen=True)
class MediaReference:
  """A medium as the client names it.

  One URL or id, or those of the pictures of a video.
  """

  kind: str
  urls: tuple[str, ...]
  frame_settings: FrameSettings
  label: str


@dataclasses.dataclass(frozen=True)
class ChatBody:
  """A request whose media are still references."""

  model: str
  messages: tuple[tuple[str, tuple[str | MediaReference, ...]], ...]
  settings: AnswerSettings
  selector: str
  dropout: str
  stream: bool
  include_usage: bool
  warnings: tuple[str, ...]

  def check_model(self, name: str) -> None:
    """Raises RequestError if the request is for another model than this server's."""
    if self.model not in ("", name):
      raise RequestError(
        f"There is no model {self.model[:200]!r} here; this server has {name!r}.",
        status=404,
        code="model_not_found",
        parameter="model",
      )

  def request(self, find_medium: Callable[[MediaReference], Medium]) -> AnswerRequest:
    """The request, with the media that `find_medium` gives for the references."""
    messages = []
    for role, parts in self.messages:
      parts_found: list[str | Medium] = []
      for part in parts:
        parts_found.append(part if isinstance(part, str) else find_medium(part))
      messages.append(ChatMessage(role, tuple(parts_found)))
    return AnswerRequest(tuple(messages), self.settings, self.selector, self.dropout)


def parse_body(body: Any, limits: ServingLimits) -> ChatBody:
  """A request from JSON.

  Raises RequestError that names the field. Unknown fields become warnings.
  """
  if not isinstance(body, Mapping):
    raise RequestError("The body must be a JSON object.", code="invalid_json")
  messages = _messages(body, limits)
  return ChatBody(
    model=_text(body, "model"),
    messages=messages,
    settings=_settings(body),
    selector=_text(body, "selector"),
    dropout=_text(body, "dropout"),
    stream=_flag(body, "stream"),
    include_usage=_include_usage(body),
    warnings=_warnings(body),
  )


def _settings(body: Mapping[str, Any]) -> AnswerSettings:
  values: dict[str, Any] = {}
  sources: dict[str, str] = {}
  for field, (name, kind) in _NUMBERS.items():
    value = body.get(field)
    if value is None:
      continue
    if not is_number(value) or (kind is int and value != int(value)):
      word = "a whole number" if kind is int else "a number"
      raise RequestError(f"{field}={value!r} must be {word}.", parameter=field)
    if name in values and values[name] != value:
      raise RequestError(
        f"{sources[name]}={values[name]} and {field}={value} contradict each other.",
        code="contradiction",
        parameter=field,
      )
    values[name] = kind(value)
    sources[name] = field
    if name != "seed":  # Any whole number is one.
      _check_range(name, values[name], field)
  values["seed"] = values.get("seed", 0) % _SEEDS
  return AnswerSettings(stop_strings=_stop_strings(body), **values)


def _check_range(name: str, value: float, field: str) -> None:
  """Raises RequestError for a setting out of range.

  The error calls it by its name in the request.
  """
  try:
    check_answer_settings(**{name: value})
  except ValueError as error:
    message = str(error).replace(name, field, 1)
    raise RequestError(message, parameter=field) from None


def _stop_strings(body: Mapping[str, Any]) -> tuple[str, ...]:
  stop = body.get("stop")
  if stop is None:
    stop = body.get("stop_strings")
  if stop is None:
    return ()
  strings = [stop] if isinstance(stop, str) else stop
  is_list = isinstance(strings, Sequence) and all(isinstance(text, str) for text in strings)
  if not is_list or len(strings) > 16 or any(len(text) > 1000 for text in strings):
    raise RequestError(
      "stop must be a text or a list of up to 16 texts of at most 1000 letters.", parameter="stop"
    )
  return tuple(strings)


def _messages(
  body: Mapping[str, Any], limits: ServingLimits
) -> tuple[tuple[str, tuple[str | MediaReference, ...]], ...]:
  messages = body.get("messages")
  if not isinstance(messages, list) or not messages:
    raise RequestError("messages must be a list with at least one message.", parameter="messages")
  parsed = []
  letters = 0
  media = 0
  pictures = 0
  count = len(messages)
  for number, message in enumerate(messages):
    where = f"messages[{number}]"
    if not isinstance(message, Mapping):
      raise RequestError(f"{where} must be an object.", parameter=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
      raise RequestError(
        f"{where}.role={role!r} is unknown. Set it to system, user or assistant.",
        parameter=f"{where}.role",
      )
    content = message.get("content")
    count += len(content) if isinstance(content, list) else 1
    if count > _MOST_PARTS:
      raise RequestError(
        f"The request has more than {_MOST_PARTS} messages and parts.", parameter="messages"
      )
    parts = _parts(body, content, f"{where}.content")
    letters += sum(len(part) for part in parts if isinstance(part, str))
    references = [part for part in parts if isinstance(part, MediaReference)]
    media += len(references)
    pictures += sum(len(reference.urls) for reference in references)
    parsed.append((_ROLES[role], parts))
  if letters > limits.prompt_characters:
    raise RequestError(
      f"The messages have {letters} letters; this server reads at most "
      f"{limits.prompt_characters} (prompt_characters).",
      code="context_length_exceeded",
      parameter="messages",
    )
  if media > limits.media:
    raise RequestError(
      f"The messages show {media} media; this server reads at most {limits.media} (media).",
      parameter="messages",
    )
  if pictures > media + limits.frames:
    raise RequestError(
      f"The messages show {pictures} pictures; this server reads at most {limits.frames} (frames).",
      code="too_many_frames",
      parameter="messages",
    )
  return tuple(parsed)


def _parts(body: Mapping[str, Any], content: Any, where: str) -> tuple[str | MediaReference, ...]:
  """The texts and media of a message."""
  if isinstance(content, str):
    return (content,)
  if content is None:
    return ()
  if not isinstance(content, list):
    raise RequestError(f"{where} must be a text or a list of parts.", parameter=where)
  parts: list[str | MediaReference] = []
  for number, part in enumerate(content):
    parts.append(_part(body, part, f"{where}[{number}]"))
  return _with_pictures_joined(parts, body)


def _part(body: Mapping[str, Any], part: Any, where: str) -> str | MediaReference:
  if isinstance(part, str):
    return part
  kind = part.get("type") if isinstance(part, Mapping) else None
  if kind in ("text", "input_text"):
    text = part.get("text")
    if not isinstance(text, str):
      raise RequestError(f"{where}.text must be a text.", parameter=where)
    return text
  if kind in ("file", "input_file"):
    fields = part.get("file", part)
    name = fields.get("file_id") if isinstance(fields, Mapping) else None
    return _reference(body, VIDEO, name, (part,), where)
  if not isinstance(kind, str) or kind not in _MEDIA_PARTS:
    raise RequestError(
      f"{where}.type={kind!r} is unknown. Set it to text, image_url, video_url or file.",
      parameter=where,
    )
  field = part.get(kind, part.get(kind.replace("input_", "") + "_url"))
  if not isinstance(field, Mapping):
    return _reference(body, _MEDIA_PARTS[kind], field, (part,), where)
  return _reference(body, _MEDIA_PARTS[kind], field.get("url"), (part, field), where)


def _reference(
  body: Mapping[str, Any], kind: str, url: Any, parts: Sequence[Mapping[str, Any]], where: str
) -> MediaReference:
  """A medium; `parts` may hold frame settings."""
  if not isinstance(url, str) or not url:
    raise RequestError(f"{where} needs a URL, or the id of an uploaded file.", parameter=where)
  if kind == IMAGE:
    parts = ()
  urls: tuple[str, ...] = (url,)
  if url.startswith("data:video/jpeg;base64,"):  # vLLM's form of a video as pictures.
    pictures = url.partition(",")[2]
    urls = tuple(f"data:image/jpeg;base64,{picture}" for picture in pictures.split(","))
    kind = IMAGE if len(urls) == 1 else VIDEO
  return MediaReference(kind, urls, frame_settings(body, *parts), where)


def _with_pictures_joined(
  parts: Sequence[str | MediaReference], body: Mapping[str, Any]
) -> tuple[str | MediaReference, ...]:
  """The parts, with pictures in a row as one video.

  `images_as_video` true or false decides it; otherwise their number does.
  """
  fewest = PICTURES_OF_A_VIDEO
  if body.get("images_as_video") is not None:
    fewest = 2 if _flag(body, "images_as_video") else len(parts) + 1
  joined: list[str | MediaReference] = []
  row: list[MediaReference] = []
  for part in (*parts, ""):
    if isinstance(part, MediaReference) and part.kind == IMAGE:
      row.append(part)
      continue
    if len(row) >= fewest:
      urls = tuple(picture.urls[0] for picture in row)
      joined.append(dataclasses.replace(row[0], kind=VIDEO, urls=urls))
    else:
      joined.extend(row)
    row = []
    joined.append(part)
  return tuple(joined[:-1])


def _text(body: Mapping[str, Any], field: str) -> str:
  value = body.get(field)
  if value is None:
    return ""
  if not isinstance(value, str):
    raise RequestError(f"{field} must be a text.", parameter=field)
  return value


def _flag(body: Mapping[str, Any], field: str) -> bool:
  value = body.get(field)
  if value is None:
    return False
  if not isinstance(value, bool):
    raise RequestError(f"{field} must be true or false.", parameter=field)
  return value


def _include_usage(body: Mapping[str, Any]) -> bool:
  options = body.get("stream_options")
  if options is None:
    return False
  if not isinstance(options, Mapping):
    raise RequestError("stream_options must be an object.", parameter="stream_options")
  return _flag(options, "include_usage")


def _warnings(body: Mapping[str, Any]) -> tuple[str, ...]:
  """A sentence for every field that has no effect."""
  effective = {*_NUMBERS, *_OTHERS}
  ignored = []
  for field, value in body.items():
    asks_nothing = value in (None, False, 0, [], {}) or value == _WITHOUT_EFFECT.get(field)
    if field not in effective and not asks_nothing:
      ignored.append(f"{field[:100]} has no effect on this server.")
  for field in other_fields(body):
    ignored.append(f"{field[:100]} has no effect on this server.")
  return tuple(ignored[:32])
