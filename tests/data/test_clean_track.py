# SPDX-License-Identifier: Apache-2.0
"""Events of a track are put in order, bounded and merged; each change is counted."""

from collections import Counter
import math

from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.track import Event, Part, Track


def cleaned(*spans, parts=(), redacted=(), duration=100.0):
  events = tuple(Event(*span) for span in spans)
  track = Track("key", (Scene("a.mp4", t1=duration),), duration, events, tuple(parts))
  counts = Counter()
  track = clean_track(track, counts, redacted)
  return track, [(event.t0, event.t1, event.text) for event in track.events], dict(counts)


def test_events_are_sorted():
  _, events, counts = cleaned((5, 6, "b"), (1, 2, "a"))
  assert events == [(1, 2, "a"), (5, 6, "b")]
  assert counts == {}


def test_an_end_beyond_the_video_is_cut():
  _, events, counts = cleaned((90, 120, "a"))
  assert events == [(90, 100, "a")]
  assert counts == {"events: partly outside of the video, cut": 1}


def test_less_than_a_second_inside_the_video_is_dropped():
  _, events, counts = cleaned((99.5, 120, "a"), (200, 210, "b"))
  assert events == []
  assert counts == {"events: outside of the video, dropped": 2}


def test_events_without_length_text_or_time_are_dropped():
  _, events, counts = cleaned((1, 1, "a"), (3, 2, "b"), (1, 2, " \n"), (math.nan, 3, "c"))
  assert events == []
  assert counts == {
    "events: without a length, dropped": 2,
    "events: without text, dropped": 1,
    "events: without a time, dropped": 1,
  }


def test_equal_neighbours_are_merged():
  _, events, counts = cleaned(
    (1, 2, "Look around."), (2.5, 4, "look around"), (9, 10, "look around")
  )
  assert events == [(1, 4, "Look around."), (9, 10, "look around")]
  assert counts == {"events: repetitions of the event before, merged into it": 1}


def test_the_same_annotation_twice_is_one():
  _, events, _ = cleaned((1, 9, "a"), (1, 9.0005, "b"), (1.0003, 9.0007, "a"))
  assert events == [(1, 9, "a"), (1, 9.0005, "b")] or events == [(1, 9.0007, "a"), (1, 9.0005, "b")]


def test_events_in_redacted_stretches_are_dropped():
  _, events, counts = cleaned((1, 3, "a"), (3, 4, "b"), redacted=[(2, 3)])
  assert events == [(3, 4, "b")]
  assert counts == {"events: in redacted stretches, dropped": 1}


def test_parts_keep_their_events():
  parts = [Part(0, 10, "first", 0, 2), Part(10, 130, "second", 2, 4)]
  spans = [(5, 6, "b"), (1, 1, "none"), (12, 13, "d"), (11, 12, "c")]
  track, _, _ = cleaned(*spans, parts=parts)
  assert track.parts == (Part(0, 10, "first", 0, 1), Part(10, 100, "second", 1, 3))


def test_a_part_without_events_is_empty():
  track, _, _ = cleaned((1, 1, "none"), parts=[Part(0, 10, "first", 0, 1)])
  assert track.parts == (Part(0, 10, "first", 0, 0),)


def test_redacted_and_outer_parts_are_dropped():
  parts = [Part(0, 10, "a", 0, 0), Part(10, 30, "b", 0, 0), Part(150, 160, "c", 0, 0)]
  track, _, counts = cleaned(parts=parts, redacted=[(8, 12)])
  assert track.parts == (Part(10, 30, "b", 0, 0),)
  assert counts == {"parts: redacted, dropped": 1, "parts: outside of the video, dropped": 1}


def test_cleaning_twice_changes_nothing():
  parts = [Part(0, 10, "first", 0, 2), Part(10, 130, "second", 2, 4)]
  track, _, _ = cleaned((5, 6, "b"), (5.5, 8, "b"), (90, 130, "d"), (11, 12, "c"), parts=parts)
  counts = Counter()
  assert clean_track(track, counts) == track
  assert not counts
