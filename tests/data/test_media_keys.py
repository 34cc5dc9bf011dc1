# SPDX-License-Identifier: Apache-2.0
"""Records that talk of media which they do not have: bad, with a sentence that names the key."""

import pytest

from data_pipelines.manifest import llava
from data_pipelines.manifest.llava import MEDIA
from data_pipelines.sample import Scene


def read(question="What is seen?", **more):
  turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "Bars."}]
  return llava.parse_record({"conversations": turns, **more}, "m.json:1", "/media")


def reason(question="What is seen?", **more):
  with pytest.raises(llava.RecordError) as error:
    read(question, **more)
  assert "\n" not in str(error.value) and len(str(error.value)) < 300
  return str(error.value)


@pytest.mark.parametrize(
  "key",
  [
    "Image",
    "VIDEO",
    "Video",
    "video_path",
    "video_file",
    "image_path",
    "img",
    "video_url",
    "imageURL",
    "videoFile",
    "image-file",
    "image_paths",
    "video_paths",
    "video_name",
    "video_id",
    "image_id",
    "local_video",
    "path_to_video".replace("_to", ""),
    "img_path",
    "photo",
    "media",
    "media_path",
    "clip",
    "gif",
    "Scenes",
    "scene",
    "video_list",
    "input_image",
    "vid",
    "v_id",
    "frames",
    "keyframe_paths",
    "video_frames",
    "youtube_id",
    "clip_uid",
  ],
)
@pytest.mark.parametrize("value", ["a.mp4", ["a.mp4"], {"path": "a.mp4"}, 7])
def test_other_keys_are_named(key, value):
  for question in ("What is seen?", "<image>\nWhat is seen?"):
    message = reason(question, **{key: value})
    assert f'has its media in "{key}": ' in message
    assert "name them in image, video or scenes" in message


NAMES = ["a.mp4", "./A/b.JPG", "/data/x.parquet#0/mp4", "x.tar#0.mp4", "https://a.org/b.webm"]


@pytest.mark.parametrize("key", ["path", "file", "mp4", "jpg", "inputs", "url", "metadata"])
@pytest.mark.parametrize("name", NAMES)
def test_values_that_name_a_medium(key, name):
  for value in (name, [name], {"path": name}, [{"id": 1, "path": name}]):
    assert f'has its media in "{key}": ' in reason(**{key: value})
    assert f'has its media in "{key}": ' in reason_of_pair(**{key: value})
  for value in ("text.json", "How is a.mp4 read?", "a.mp4.", 3, True):
    assert read(**{key: value}).media == ()
  assert read(video="a.mp4", **{key: name}).media == ((Scene("/media/a.mp4"),),)


def reason_of_pair(**more):
  with pytest.raises(llava.RecordError) as error:
    llava.parse_record({"question": "a.mp4", "answer": "b.jpg", **more}, "m.json:1", "/media")
  return str(error.value)


@pytest.mark.parametrize(
  ("one", "several"), [({"video": "a.mp4"}, "videos"), ({"image": "a.png"}, "images")]
)
def test_plural_keys_are_read(one, several):
  (name,) = one.values()
  assert read("<image>Q", **{several: [name]}).media == read("<image>Q", **one).media
  both = reason(**one, **{several: [name]})
  assert both == f"has {several} and {several[:-1]}; name all media in one of them"


def test_tags_of_plural_keys_take_from_their_own_list():
  sample = read("<video> or <image>?", videos=["a.mp4"], images=["b.png"])
  assert sample.media == ((Scene("/media/a.mp4"),), (Scene("/media/b.png", "image"),))


@pytest.mark.parametrize("medium", [{"images": ["a.png"]}, {"image": "a"}, {"file": "a.mp4"}])
def test_media_beside_the_text_of_a_turn(medium):
  answer = {"from": "gpt", "value": "b"}
  forms = [
    {"conversations": [{"from": "human", "value": "a", **medium}, answer]},
    {
      "messages": [
        {"role": "user", "content": "a", **medium},
        {"role": "assistant", "content": "b"},
      ]
    },
  ]
  for form in forms:
    for beside in ({}, {"video": "b.mp4"}):
      with pytest.raises(
        llava.RecordError, match=r"has (turn|message) 1 with .* name media beside"
      ):
        llava.parse_record({**form, **beside}, "m.json:1")
  turns = [{"from": "human", "value": "a", "image": None, "weight": 1.0}, answer]
  assert llava.parse_record({"conversations": turns}, "m.json:1").media == ()


def test_pictures_are_no_list_of_videos():
  for names in (["f/1.jpg", "f/2.jpg"], ["1.PNG"] * 9):
    expected = f'lists {len(names)} pictures as videos, such as "{names[0]}"; name their folder'
    assert reason(video=names).startswith(expected)
    assert reason_of_pair(video=names).startswith(expected)
  assert len(read("<video><video>", video=["a.mp4", "b.png"]).media) == 2
  assert len(read(video="b.png").media) == 1


TIME_KEYS = [
  "start_time",
  "end_time",
  "video_start",
  "video_end",
  "start_sec",
  "begin",
  "end_frame",
]


@pytest.mark.parametrize("key", [*TIME_KEYS, "clip_start_time", "Start_timestamp", "t_end"])
def test_times_under_other_keys(key):
  for value in (2, 2.5, "2.5", "00:00:02.500", [1, 2]):
    message = reason(video="a.mp4", **{key: value})
    assert f'has "{key}": ' in message and "write seconds of the file as start and end" in message
    pair = reason_of_pair(video="a.mp4", **{key: value})
    assert pair == message
  for value in (0, None, True, "", "yes", "00:00", []):
    assert read(video="a.mp4", **{key: value}).media == ((Scene("/media/a.mp4"),),)
  assert read(image="a.png", **{key: 2}).media and not read(**{key: 2}).media
  assert read(video="a.mp4", end=3, **{key: 2}).media == ((Scene("/media/a.mp4", t1=3.0),),)


@pytest.mark.parametrize("key", [*MEDIA, "videos", "images", "video_path", "Image"])
@pytest.mark.parametrize("value", [None, "", []])
def test_an_empty_key(key, value):
  assert read("Is it <b>?", **{key: value}).media == ()
  message = reason("<image>\nWhat is seen?", **{key: value})
  assert message.startswith(f'has <image> but no medium: "{key}" is ')
  assert reason("Is <video> seen?", **{key: value}).startswith("has <video> but no medium")


@pytest.mark.parametrize(
  "value",
  [
    5,
    0,
    True,
    False,
    {},
    {"bytes": "x" * 100_000},
    [None],
    [""],
    ["a.mp4", None],
    [["a.mp4"]],
    float("nan"),
    " ",
    "\t\n",
    "a\0b.mp4",
    [{"path": "a.mp4"}],
  ],
)
@pytest.mark.parametrize("key", ["image", "video"])
def test_values_that_are_no_paths(key, value):
  message = reason("<image>\nWhat is seen?", **{key: value})
  assert message.startswith("names a medium by ")
  assert f" in {key}, which is not a path" in message


@pytest.mark.parametrize(
  "value",
  [
    "data:video/mp4;base64," + "QUJD" * 50_000,
    "data:image/png;base64,QUJD",
    "QUJD" * 50_000,
    "data:,",
    "x" * 5000,
  ],
)
@pytest.mark.parametrize("key", ["image", "video", "scenes"])
def test_the_medium_itself_is_no_path(key, value):
  named = [{"media": value}] if key == "scenes" else value
  message = reason("<image>\nWhat is seen?", **{key: named})
  assert message.startswith(f"names a medium by {len(value)} characters ")
  assert message.endswith(f" in {key}, which is not a path; save what they hold as a file")
  assert len(message) < 200


def test_keys_beside_a_medium():
  about = {
    "video_id": "x",
    "video_path": "/tmp/a.mp4",
    "image_id": 3,
    "data_source": "s",
    "videos": [],
    "images": None,
    "duration": 3.5,
  }
  assert len(read(video="a.mp4", **about).media) == 1
  for key in ("Image", "VIDEO", "scene", "video2", "image_2"):
    message = reason(video="a.mp4", **{key: ["b.png"]})
    assert f'has video and "{key}": ["b.png"], which is not read' in message


@pytest.mark.parametrize(
  "key",
  [
    "source",
    "path",
    "url",
    "name",
    "length",
    "videography",
    "imagination",
    "mediation",
    "clipped",
    "metadata",
    "category",
  ],
)
def test_keys_that_are_about_something_else(key):
  assert read(**{key: "x"}).media == ()


@pytest.mark.parametrize(
  ("value", "id"),
  [(None, "m.json:1"), ("", "m.json:1"), (0, "0"), ("0", "0"), (7, "7"), (1.5, "1.5"), ("a", "a")],
)
def test_ids(value, id):
  assert read(id=value).id == id


def test_no_id_is_the_place_of_the_record():
  assert read().id == "m.json:1"


@pytest.mark.parametrize(("value", "kind"), [(None, ""), ("", ""), (0, "0"), ("count", "count")])
def test_kinds(value, kind):
  assert read(kind=value).kind == kind


@pytest.mark.parametrize(("key", "where"), [("id", "id"), ("kind", "kind"), ("video", "a path")])
def test_lone_surrogates(key, where):
  assert reason("<image>", **{"video": "a.mp4", key: "a\ud800"}) == f"has {where} that is not UTF-8"
