# SPDX-License-Identifier: Apache-2.0
"""Draws depend on names alone."""

import collections
import json

import pytest

from data_pipelines.manifest.reader import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis import draw
from data_pipelines.synthesis.track import Event, Part, Track, parse_track, track_record


def test_draws_are_those_of_any_machine():
  assert draw.digest(42, "deck", 3) == 5_046_928_844_338_143_995
  assert draw.shuffled("abcdef", 0, "x") == draw.shuffled(list("abcdef"), 0, "x")


def test_draws_are_even():
  counts = collections.Counter(draw.below(7, 1, "n", number) for number in range(7000))
  assert set(counts) == set(range(7)) and max(counts.values()) < 1150
  assert 0.49 < sum(draw.unit(1, "u", number) for number in range(4000)) / 4000 < 0.51


def test_tracks_come_back_from_their_records():
  event = Event(0.0, 2.0, "A man opens a door.", "open a door", "kitchen")
  track = Track("k", (Scene("a.mp4"),), 10.0, (event,), (Part(0.0, 4.0, "In.", 0, 1),), "s", "x")
  record = json.loads(json.dumps(track_record(track)))
  assert parse_track(record) == track
  with pytest.raises(RecordError, match="is not a track"):
    parse_track(dict(key="k"))


def test_draws_of_one_name_are_the_same_again_and_even():
  draws = draw.Draws(42, "question", "video", 1)
  numbers = [draws.below(7) for _ in range(7000)]
  again = draw.Draws(42, "question", "video", 1)
  assert numbers == [again.below(7) for _ in range(7000)]
  assert all(900 < numbers.count(number) < 1100 for number in range(7))


def test_samples_have_no_item_twice_and_every_order_is_drawn():
  draws = draw.Draws(42, "samples")
  counts = collections.Counter(tuple(draws.sample("abc", 2)) for _ in range(6000))
  assert len(counts) == 6
  assert all(850 < count < 1150 for count in counts.values())
  assert sorted(draws.sample(range(3), 9)) == sorted(draws.places(3)) == [0, 1, 2]
  assert draws.sample([], 2) == []
