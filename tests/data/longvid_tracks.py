# SPDX-License-Identifier: Apache-2.0
"""Invented tracks for tests: cooking videos whose steps mostly follow the same order."""

import random

from data_pipelines.sample import Scene
from data_pipelines.synthesis.shards import json_line
from data_pipelines.synthesis.track import Event, Part, Track, track_record

VERBS = "chop peel boil fry season plate garnish slice drain pour whisk bake".split()
THINGS = "onion tomato pasta chicken garlic salad soup bread egg rice potato carrot".split()
PLACES = "kitchen garden hall cellar street office beach market".split()


def cooking_track(number, noise=2.5, repeats=False):
  """Eight steps in nearly the order of VERBS; noise 0: in this order."""
  rng = random.Random(number)
  steps = rng.sample(range(len(VERBS)), 8)
  steps.sort(key=lambda step: step + rng.gauss(0, noise))
  if repeats:
    steps = [rng.choice(steps[:4]) for _ in steps]
  events = []
  second = 0.0
  for step in steps:
    length = rng.uniform(5, 20)
    label = f"{VERBS[step]} the {THINGS[step] if repeats else rng.choice(THINGS)}"
    place = f"the {rng.choice(PLACES)}"
    start, end = round(second, 3), round(second + length, 3)
    events.append(Event(start, end, f"They {label}.", label, place))
    second += length + rng.uniform(3.5, 5)
  key = f"video{number:06d}"
  summary = f"cooking {THINGS[number % 4]} at home"
  media = (Scene(f"{key}.mp4"),)
  return Track(key, media, round(second, 3), tuple(events), (), summary, "toy", True)


def in_parts(track):
  """The track with two parts of four events."""
  events = track.events
  first = Part(0.0, events[3].t1, "The first half of the work", 0, 4)
  second = Part(events[4].t0, events[7].t1, "The second half of the work", 4, 8)
  return Track(**(vars(track) | dict(parts=(first, second))))


def write_tracks_file(path, tracks):
  """Writes tracks as the source "tracks" reads them."""
  path.write_bytes(b"".join(json_line(track_record(track)) for track in tracks))
  return path
