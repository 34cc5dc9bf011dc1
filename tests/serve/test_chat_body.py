# SPDX-License-Identifier: Apache-2.0
"""Bodies of chat requests: every spelling of video, and errors that name the field."""

import pytest

from filax.serve.chat_body import MediaReference, parse_body
from filax.serve.limits import ServingLimits
from filax.serve.requests import IMAGE, VIDEO, FrameSettings, RequestError

URL = "data:video/mp4;base64,AAAA"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def parse(content="What?", **fields):
  body = {"messages": [{"role": "user", "content": content}], **fields}
  return parse_body(body, ServingLimits(media=8, prompt_characters=1000))


def video_part(**fields):
  return {"type": "video_url", "video_url": {"url": URL, **fields}}


def media_of(body):
  ((_, parts),) = body.messages
  return [part for part in parts if isinstance(part, MediaReference)]


@pytest.mark.parametrize(
  "part, fields",
  [
    (video_part(), {"media_io_kwargs": {"video": {"num_frames": 32, "fps": 2}}}),
    (video_part(), {"chat_template_kwargs": {"num_frames": 32, "fps": 2}}),
    (video_part(max_frames=32, fps=2), {}),
    (video_part(fps=2.0), {"num_frames": 32}),
    (video_part(fps=2), {"mm_processor_kwargs": {"fps": 2, "num_frames": 32}}),
    (video_part() | dict(fps=2, num_frames=32), {}),
  ],
)
def test_every_spelling_of_frames(part, fields):
  (medium,) = media_of(parse([part, {"type": "text", "text": "What?"}], **fields))
  assert medium.kind == VIDEO and medium.urls == (URL,)
  assert medium.frame_settings == FrameSettings(fps=2.0, frames=32)


def test_contradictions_are_refused():
  with pytest.raises(RequestError, match=r"fps=2 and video_url\.fps=3 contradict") as caught:
    parse([video_part(fps=3)], fps=2)
  assert caught.value.code == "contradiction"
  with pytest.raises(RequestError, match=r"video_url\.fps=3 and video_url\.fps=2 contradict"):
    parse([video_part(fps=2) | dict(fps=3)])
  with pytest.raises(RequestError, match="max_tokens=3 and max_completion_tokens=4"):
    parse(max_tokens=3, max_completion_tokens=4)


@pytest.mark.parametrize(
  "fields, field",
  [
    (dict(fps=0), "fps"),
    (dict(fps="2"), "fps"),
    (dict(num_frames=1.5), "num_frames"),
    (dict(num_frames=True), "num_frames"),
    (dict(start=-1), "start"),
    (dict(start=5, end=5), "end"),
    (dict(fps=float("nan")), "fps"),
    (dict(media_io_kwargs=3), "media_io_kwargs"),
    (dict(temperature="hot"), "temperature"),
    (dict(n=1.5), "n"),
    (dict(n=0), "n"),
    (dict(max_tokens=0), "max_tokens"),
    (dict(max_completion_tokens=-1), "max_completion_tokens"),
    (dict(temperature=-1), "temperature"),
    (dict(top_p=0), "top_p"),
    (dict(repetition_penalty=0), "repetition_penalty"),
    (dict(stream_options=5), "stream_options"),
    (dict(seed=[1]), "seed"),
    (dict(stream=1), "stream"),
    (dict(stop=5), "stop"),
    (dict(stop=["a"] * 17), "stop"),
    (dict(model=3), "model"),
    (dict(selector=3), "selector"),
  ],
)
def test_a_bad_field_is_named(fields, field):
  with pytest.raises(RequestError) as caught:
    parse([video_part()], **fields)
  assert field in str(caught.value) and caught.value.status == 400
  assert caught.value.parameter.endswith(field)


@pytest.mark.parametrize(
  "body",
  [
    None,
    [],
    {},
    {"messages": []},
    {"messages": [3]},
    {"messages": [{"role": "robot", "content": "x"}]},
    {"messages": [{"role": "user", "content": 3}]},
    {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
    {"messages": [{"role": "user", "content": [{"type": []}]}]},
    {"messages": [{"role": "user", "content": [{"type": "video_url"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
    {"messages": [{"role": "user", "content": "x" * 1001}]},
    {"messages": [{"role": "user", "content": [PICTURE] * 3 + ["x"] + [video_part()] * 6}]},
  ],
)
def test_a_malformed_body_is_one_sentence(body):
  with pytest.raises(RequestError, match=r"^[^\n]+\.$") as caught:
    parse_body(body, ServingLimits(media=8, prompt_characters=1000))
  assert caught.value.status == 400


def test_a_long_value_in_an_error_is_shortened():
  """Such as a video in a data URL, in the wrong place."""
  with pytest.raises(RequestError, match=r"^temperature=") as caught:
    parse(temperature="A" * 100_000)
  assert len(str(caught.value)) < 1000


def test_pictures_in_a_row_are_a_video():
  (medium,) = media_of(parse([PICTURE] * 5 + ["What?"], fps=4))
  assert medium.kind == VIDEO and len(medium.urls) == 5 and medium.frame_settings.fps == 4
  assert [medium.kind for medium in media_of(parse([PICTURE] * 2))] == [IMAGE] * 2
  assert len(media_of(parse([PICTURE] * 5, images_as_video=False))) == 5
  assert len(media_of(parse([PICTURE] * 2, images_as_video=True))) == 1
  assert len(media_of(parse([PICTURE] * 4 + ["and"] + [PICTURE] * 4))) == 2


def test_a_data_url_of_pictures_is_a_video():
  url = "data:video/jpeg;base64,AAAA,BBBB,CCCC"
  (medium,) = media_of(parse([{"type": "video_url", "video_url": {"url": url}}]))
  assert medium.urls == tuple(f"data:image/jpeg;base64,{x}" for x in ("AAAA", "BBBB", "CCCC"))


def test_an_uploaded_file_is_named_by_its_id():
  part = {"type": "file", "file": {"file_id": "file-abc"}}
  (medium,) = media_of(parse([part, "What?"]))
  assert medium.kind == VIDEO and medium.urls == ("file-abc",)


def test_settings_have_the_names_of_the_library():
  body = parse(
    max_completion_tokens=7,
    temperature=0.5,
    top_p=0.9,
    top_k=5,
    min_p=0.1,
    repetition_penalty=1.1,
    stop="END",
    seed=-1,
    n=2,
  )
  settings = body.settings
  assert (settings.max_new_tokens, settings.answers, settings.stop_strings) == (7, 2, ("END",))
  assert (settings.temperature, settings.top_p, settings.top_k) == (0.5, 0.9, 5)
  assert (settings.min_p, settings.repetition_penalty) == (0.1, 1.1)
  assert settings.seed == (1 << 32) - 1


def test_unknown_fields_are_warnings_and_no_errors():
  body = parse(tools=[{"type": "function"}], presence_penalty=0.5, logprobs=False)
  assert len(body.warnings) == 2 and "tools" in body.warnings[0]


def test_what_the_server_does_anyway_is_no_warning():
  assert not parse(response_format={"type": "text"}, tool_choice="none", best_of=1).warnings
  assert parse(response_format={"type": "json_object"}, tool_choice="auto").warnings


def test_unknown_fields_beside_those_of_frames_are_warnings():
  fields = dict(
    chat_template_kwargs=dict(enable_thinking=False, fps=2),
    media_io_kwargs=dict(video=dict(fps=2), image=None),
  )
  (warning,) = parse([video_part()], **fields).warnings
  assert warning.startswith("chat_template_kwargs.enable_thinking has no effect")
