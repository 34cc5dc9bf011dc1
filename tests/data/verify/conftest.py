# SPDX-License-Identifier: Apache-2.0
"""A small set of questions about one track, whose answers are written by hand."""

import dataclasses
import hashlib
import json

import pytest

CLOSING = "Answer with the option's letter from the given choices directly."
LABELS = (
  "boil the water",
  "chop two onions",
  "stir the sauce",
  "drain the pasta",
  "grate some cheese",
  "set the table",
)
PLACES = ("a kitchen", "a kitchen", "a garden", "a kitchen", "a cellar", "a dining room")


def track(key="AbCdEfGhIjK", source="steps"):
  """Six events of 8 seconds, one every 10; the first label happens again at 70 seconds."""
  events = []
  for number, label in enumerate(LABELS):
    start = 10.0 * number
    text = f"They {label} now."
    events.append(dict(t0=start, t1=start + 8, text=text, label=label, place=PLACES[number]))
  events.append(dict(t0=70.0, t1=74.0, text="Again.", label=LABELS[1], place="a kitchen"))
  parts = [dict(t0=0.0, t1=60.0, text="Somebody cooks a whole meal.", first=0, stop=6)]
  media = [dict(media=f"videos/{key}.mp4")]
  return dict(
    key=key, media=media, duration=80.0, events=events, parts=parts, source=source, exhaustive=True
  )


def record(name, task, stem, answer, options=(), key="AbCdEfGhIjK", start=0.0, **made):
  """A record of training data about the part of `track`."""
  lines = [f"{chr(65 + place)}. {option}" for place, option in enumerate(options)]
  question = "\n".join([f"<image>\n{stem}", *lines, *([CLOSING] if options else [])])
  turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
  origin = dict(source="steps", track=key, task=task, part=0) | made
  keys = dict(video=f"videos/{key}.mp4", start=start, end=60.0)
  if origin["part"] < 0:
    keys["end"] = 80.0
  return dict(id=name, kind=task, **keys, conversations=turns, made=origin)


def good_records(key="AbCdEfGhIjK"):
  """A record of every task, all right."""
  listed = "\n1. drain the pasta\n2. chop two onions\n3. boil the water"
  orders = ("2 -> 3 -> 1", "3 -> 2 -> 1", "1 -> 2 -> 3", "2 -> 1 -> 3")
  places = "\n1. a garden\n2. a cellar\n3. a kitchen"
  place_orders = ("3 -> 1 -> 2", "1 -> 3 -> 2", "1 -> 2 -> 3", "2 -> 1 -> 3")
  spans = tuple(f"{start}.0 - {start + 8}.0 seconds" for start in (0, 30, 20, 40))
  lines = []
  for number, label in enumerate(LABELS):
    lines.append(f"{10 * number} - {10 * number + 8} seconds: They {label} now.")
  wrong = ("set the table", "drain the pasta", "boil the water", "grate some cheese")
  ask = 'When does this happen: "stir the sauce"?'
  after = 'What happens right after this: "stir the sauce"?'
  before = 'What happens right before this: "chop two onions"?'
  count = 'How often is this seen: "chop two onions"?'
  name = f"q-{key}"
  options = dict(options=spans)
  return [
    record(f"{name}-0", "event_order", f"Sort these.{listed}", "B", orders, key,
           events=[0, 1, 3], listed=[3, 1, 0]),
    record(f"{name}-1", "scene_order", f"Sort these.{places}", "A", place_orders, key,
           events=[0, 2, 4], listed=[2, 4, 0]),
    record(f"{name}-2", "grounding", ask, "C", key=key, events=[2], others=[0, 3, 4], **options),
    record(f"{name}-3", "grounding_free", ask, "It happens at 20.0 - 28.0 seconds.", key=key,
           events=[2]),
    record(f"{name}-4", "event_after", after, "B", wrong, key, events=[2, 3]),
    record(f"{name}-5", "event_before", before, "C", wrong, key, events=[1, 0]),
    record(f"{name}-6", "count", count, "C", ("0", "1", "2", "3"), key, part=-1, events=[1, 6],
           label="chop two onions"),
    record(f"{name}-7", "caption_short", "Describe it.", "Somebody cooks a whole meal.", key=key),
    record(f"{name}-8", "caption_dense", "Describe it with times.", "\n".join(lines), key=key,
           events=[0, 1, 2, 3, 4, 5]),
  ]  # fmt: skip


@dataclasses.dataclass
class QuestionSet:
  """Writes a folder as `filax data longvid` does."""

  path: object

  def write(self, records, tracks=None, held_out=(), **recipe):
    """Writes shards, tracks and recipe.json, which is right about them."""
    if tracks is None:
      tracks = [track()]
    files = {"train-00000-of-00001.jsonl": records, "tracks.jsonl": tracks}
    if held_out:
      files["held_out.jsonl"] = held_out
    shards = {}
    for name, rows in files.items():
      data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
      (self.path / name).write_bytes(data)
      sha256 = hashlib.sha256(data).hexdigest()
      shards[name] = dict(records=len(rows), bytes=len(data), sha256=sha256)
    content = dict(recipe={}, complete=True, shards=shards) | recipe
    (self.path / "recipe.json").write_text(json.dumps(content))
    return self.path


@pytest.fixture
def question_set(tmp_path):
  """An empty folder for a set of questions."""
  return QuestionSet(tmp_path)


@pytest.fixture
def records():
  """A record of every task, all right."""
  return good_records()


@pytest.fixture
def make_records():
  """`good_records`, for other videos."""
  return good_records


@pytest.fixture
def make_track():
  """`track`, for other videos."""
  return track
