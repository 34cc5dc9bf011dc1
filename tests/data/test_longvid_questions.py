# SPDX-License-Identifier: Apache-2.0
"""Questions about tracks: right answers, wrong options, ranks, rejections."""

from collections import Counter
import dataclasses
import itertools
import operator
import re

import numpy as np
import pytest

from data_pipelines.synthesis.longvid import caption, count, grounding, order, scenes
from data_pipelines.synthesis.longvid.guard import fit_guard
from data_pipelines.synthesis.longvid.shown_parts import ShownTrack, drawn_slots
from data_pipelines.synthesis.longvid.word_times import fit_word_times, label_time
from data_pipelines.synthesis.track import Event
from tests.data.longvid_tracks import cooking_track, in_parts

TRACKS = [cooking_track(number) for number in range(400)]
GUARD = fit_guard(TRACKS)


def questions(builder, tracks=TRACKS, guard=GUARD, task=None):
  rejected = Counter()
  pairs = []
  for track in tracks:
    shown = ShownTrack(track, 42, rejected, guard)
    slots = drawn_slots(shown, {"task": builder.list_slots})
    for drawn in sorted(slots, key=operator.attrgetter("number")):
      question = drawn.question(shown)
      if question and task in (None, question.task):
        pairs.append((track, question))
  return pairs, rejected


def relabelled(track, number, **fields):
  events = list(track.events)
  events[number] = dataclasses.replace(events[number], **fields)
  return dataclasses.replace(track, events=tuple(events))


def rank_counts(pairs):
  return Counter(question.origin["rank"] for _, question in pairs)


def assert_even(counts, options=4):
  """Each of the options equally often, to three standard deviations."""
  total = sum(counts.values())
  sigma = (total * (1 / options) * (1 - 1 / options)) ** 0.5
  for number in range(options):
    assert abs(counts[number] - total / options) <= 3 * sigma, counts


def test_a_short_caption_is_the_text_of_the_part():
  pairs, _ = questions(caption, [in_parts(TRACKS[0])], task="caption_short")
  assert [q.right for _, q in pairs] == [
    "The first half of the work",
    "The second half of the work",
  ]


def test_a_short_text_gives_no_short_caption():
  track = dataclasses.replace(TRACKS[0], summary="cooking at home")
  pairs, rejected = questions(caption, [track], task="caption_short")
  assert not pairs
  assert rejected["caption_short: the text has fewer than 4 words"] == 1


def test_lines_of_a_dense_caption_never_step_back():
  pairs, _ = questions(caption, map(in_parts, TRACKS[:50]), task="caption_dense")
  for _, question in pairs:
    times = re.findall(r"^(\d+) - (\d+) seconds: ", question.right, re.M)
    starts = [int(start) for start, _ in times]
    assert starts == sorted(starts)
    assert all(int(start) < int(end) for start, end in times)
    assert int(times[-1][1]) <= round(question.end - question.start)


def test_times_of_a_part_count_from_its_start():
  pairs, _ = questions(grounding, [in_parts(TRACKS[0])])
  track, question = next(pair for pair in pairs if pair[1].start)
  event = track.events[question.origin["events"][0]]
  assert f"{event.t0 - question.start:.1f} - {event.t1 - question.start:.1f}" in question.right


def test_equal_neighbours_are_one_line_of_a_dense_caption():
  first = TRACKS[0].events[0]
  track = relabelled(TRACKS[0], 1, text=first.text)
  pairs, _ = questions(caption, [track], task="caption_dense")
  assert pairs[0][1].right.count(first.text) == 1


def test_the_right_span_is_the_event_that_the_question_names():
  pairs, _ = questions(grounding, task="grounding")
  for track, question in pairs:
    event = track.events[question.origin["events"][0]]
    assert question.right == f"{event.t0:.1f} - {event.t1:.1f} seconds"
    assert f'"{event.label}"' in question.stem


def test_the_rank_of_the_right_span_is_even():
  pairs, _ = questions(grounding, task="grounding")
  assert_even(rank_counts(pairs))


def nearest_is_right(pairs, tracks):
  """The share of span questions that the usual times of words answer."""
  labels = [event.label for track in tracks for event in track.events]
  middles = [(e.t0 + e.t1) / 2 / track.duration for track in tracks for e in track.events]
  weights = fit_word_times(labels, middles)
  hits = []
  for track, question in pairs:
    event = track.events[question.origin["events"][0]]
    expected = (label_time(event.label, weights) + 0.5) * track.duration
    distances = []
    for option in (question.right, *question.wrong):
      start, _, end, _ = option.split()
      distances.append(abs((float(start) + float(end)) / 2 - expected))
    hits.append(distances[0] < min(distances[1:]))
  return np.mean(hits)


def test_words_alone_answer_spans_that_are_not_balanced():
  pairs, _ = questions(grounding, TRACKS[:200], guard=None, task="grounding")
  assert nearest_is_right(pairs, TRACKS[200:]) > 0.4


def test_words_alone_do_not_answer_balanced_spans():
  pairs, _ = questions(grounding, TRACKS[:200], task="grounding")
  assert nearest_is_right(pairs, TRACKS[200:]) <= 0.33


def test_no_time_is_asked_of_a_label_that_comes_twice():
  track = relabelled(TRACKS[0], 1, label=TRACKS[0].events[0].label)
  pairs, rejected = questions(grounding, [track])
  assert not [q for _, q in pairs if set(q.origin["events"]) & {0, 1}]
  assert rejected["grounding: the label is like another one or too general"] >= 2


def test_no_time_is_asked_of_an_event_that_lasts_longer_than_half():
  whole = Event(0, TRACKS[0].duration, "They cook all day.", "cook all day long")
  track = dataclasses.replace(TRACKS[0], events=(whole, *TRACKS[0].events))
  pairs, rejected = questions(grounding, [track])
  assert not [q for _, q in pairs if 0 in q.origin["events"] + q.origin.get("others", [])]
  assert rejected["grounding: the event is longer than 50% of what is shown"] == 1


def test_the_right_order_is_that_of_the_events():
  pairs, _ = questions(order, task="event_order")
  for track, question in pairs:
    listed = question.origin["listed"]
    starts = [track.events[listed[int(item) - 1]].t0 for item in question.right.split(" -> ")]
    assert starts == sorted(starts)


def test_the_rank_of_the_right_order_is_even():
  pairs, _ = questions(order, task="event_order")
  assert_even(rank_counts(pairs))


def likeliest_is_right(pairs, tracks):
  """The share of order questions that words alone answer."""
  labels = [event.label for track in tracks for event in track.events]
  times = [event.t0 / track.duration for track in tracks for event in track.events]
  weights = fit_word_times(labels, times)
  hits = []
  for track, question in pairs:
    expected = [label_time(track.events[n].label, weights) for n in question.origin["listed"]]
    scores = []
    for option in (question.right, *question.wrong):
      items = [int(item) - 1 for item in option.split(" -> ")]
      scores.append(sum(place * expected[item] for place, item in enumerate(items)))
    hits.append(scores[0] > max(scores[1:]))
  return np.mean(hits)


def test_words_alone_answer_orders_that_are_not_balanced():
  pairs, _ = questions(order, TRACKS[:200], guard=None, task="event_order")
  assert likeliest_is_right(pairs, TRACKS[200:]) > 0.6


def test_words_alone_do_not_answer_balanced_orders():
  pairs, _ = questions(order, TRACKS[:200], task="event_order")
  assert likeliest_is_right(pairs, TRACKS[200:]) <= 0.33


def test_the_least_likely_order_is_not_right_either():
  pairs, _ = questions(order, TRACKS[:200], task="event_order")
  assert rank_counts(pairs)[3] / len(pairs) <= 0.33


def test_nothing_is_asked_where_text_gives_every_order_away():
  tracks = [cooking_track(number, noise=0) for number in range(100)]
  pairs, rejected = questions(order, tracks, fit_guard(tracks), task="event_order")
  assert not pairs
  assert rejected["event_order: no events whose order text does not give away"] > 0


def test_the_next_event_is_right_and_never_the_named_one():
  pairs, _ = questions(order, task="event_after")
  assert pairs
  for track, question in pairs:
    named, right = question.origin["events"]
    assert right == named + 1
    assert question.right == track.events[right].label
    assert track.events[named].label not in (question.right, *question.wrong)


def test_the_event_on_the_other_side_is_an_option():
  pairs, _ = questions(order, task="event_before")
  sides = [q.origin["events"][0] + 1 in q.origin["others"] for _, q in pairs]
  assert np.mean(sides) > 0.5


def test_the_order_of_places_is_that_of_their_first_appearance():
  pairs, _ = questions(scenes)
  for track, question in pairs:
    listed = question.origin["listed"]
    places = [track.events[listed[int(n) - 1]].place for n in question.right.split(" -> ")]
    firsts = []
    for place in places:
      firsts.append(min(event.t0 for event in track.events if event.place == place))
    assert firsts == sorted(firsts)


def test_fewer_than_three_places_give_no_question():
  track = TRACKS[0]
  for number in range(8):
    track = relabelled(track, number, place="the kitchen" if number % 2 else "the garden")
  pairs, rejected = questions(scenes, [track])
  assert not pairs
  assert rejected["scene_order: fewer than 3 different places"] == 1


REPEATING = [cooking_track(number, repeats=True) for number in range(1500)]


def test_counts_are_those_of_the_annotation():
  pairs, _ = questions(count, REPEATING[:50], guard=None)
  for track, question in pairs:
    label = question.origin["label"]
    assert question.right == str(sum(event.label == label for event in track.events))


def test_the_numbers_of_a_count_are_a_window_with_an_even_right_one():
  pairs, _ = questions(count, REPEATING, fit_guard(REPEATING))
  small = [pair for pair in pairs if int(pair[1].right) < 4]
  assert len(small) > 200
  for _, question in small:
    assert sorted((question.right, *question.wrong)) == ["0", "1", "2", "3"]
  assert_even(rank_counts(small))


def test_what_does_not_happen_is_counted_as_zero():
  pairs, _ = questions(count, REPEATING, fit_guard(REPEATING))
  zeros = [pair for pair in pairs if pair[1].right == "0"]
  assert zeros
  for track, question in zeros:
    assert question.origin["label"] not in [event.label for event in track.events]


def test_nothing_is_counted_where_the_annotation_is_incomplete():
  track = dataclasses.replace(TRACKS[0], exhaustive=False)
  pairs, rejected = questions(count, [track], guard=None)
  assert not pairs
  assert rejected == {"count: the annotation does not mention everything": 1}


def test_occurrences_close_together_are_one():
  first = TRACKS[0].events[0]
  again = dataclasses.replace(first, t0=first.t1 + 1, t1=first.t1 + 2)
  track = dataclasses.replace(TRACKS[0], events=(first, again, *TRACKS[0].events[1:]))
  pairs, _ = questions(count, [track], guard=None)
  assert next(q.right for _, q in pairs if q.origin["label"] == first.label) == "1"


@pytest.mark.parametrize("builder", [grounding, order, scenes, count])
def test_options_are_four_different_ones(builder):
  pairs, _ = questions(builder, TRACKS[:100])
  for _, question in pairs:
    if question.wrong:
      assert len({question.right, *question.wrong}) == 4


def test_questions_do_not_depend_on_other_tracks():
  alone, _ = questions(order, TRACKS[7:8])
  among, _ = questions(order, TRACKS[:20])
  assert list(itertools.compress(among, [t.key == TRACKS[7].key for t, _ in among])) == alone
