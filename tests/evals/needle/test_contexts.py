# SPDX-License-Identifier: Apache-2.0
"""Where needles lie: exact counts, places and borders of clips."""

import numpy as np
import pytest

from filax.evals.needle import contexts, visuals
from filax.evals.needle.protocols import PROTOCOLS
from filax.evals.needle.visuals import HaystackSource, NeedleVisuals
from filax.spec import VisualLayout

NEWLINE = 9999


def made_visuals(frames=1000, group=4, grid=(2, 2), newline="none", real=None):
  layout = VisualLayout(32, group, grid, (4, 4), newline=newline)
  end = np.full(int(newline == "one_token"), NEWLINE, np.int32)
  return NeedleVisuals(
    table=np.zeros((10_000, 1)),
    haystack=visuals.haystack_rows(layout, frames, real or frames, NEWLINE),
    pictures={},
    grey=visuals.clip_rows(layout, group, 8000, NEWLINE),
    end=end,
    layout=layout,
    real_frames=real or frames,
  )


def needle_rows(first=5000, size=4):
  return np.arange(first, first + size)


@pytest.mark.parametrize("depth", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_single_hop_keeps_all_frames_and_adds_the_needle(depth):
  tape = made_visuals()
  rows = contexts.single_hop_rows(tape, 1000, depth, needle_rows())
  (places,) = np.nonzero(rows >= 5000)
  assert places.tolist() == list(range(int(depth * 1000), int(depth * 1000) + 4))
  assert np.delete(rows, places).tolist() == list(range(1000))


def test_shorter_haystacks_are_beginnings():
  tape = made_visuals()
  rows = contexts.single_hop_rows(tape, 200, 1.0, needle_rows())
  assert rows[:-4].tolist() == list(range(200))


def test_all_published_single_hop_places_are_borders_of_clips():
  for name in ("vcf", "longva"):
    protocol = PROTOCOLS[name]
    for frames in protocol.lengths:
      for depth in protocol.depths:
        assert contexts.frames_before(frames, depth) % 4 == 0


def test_depths_do_not_fall_below_whole_frames():
  assert contexts.frames_before(100, 0.29) == 29


def test_groups_of_three_are_cut_inside():
  tape = made_visuals(frames=1000, group=3)
  rows = contexts.single_hop_rows(tape, 1000, 0.5, needle_rows())
  assert rows[: 500 * 4 // 3].tolist() == list(range(666))
  assert len(rows) == 1000 * 4 // 3 + 4


def test_newlines_of_groups_stay_in_place():
  tape = made_visuals(frames=8, newline="frame")
  rows = contexts.single_hop_rows(tape, 8, 0.5, needle_rows())
  assert rows.tolist() == [0, 1, 2, 3, NEWLINE, 5000, 5001, 5002, 5003, 4, 5, 6, 7, NEWLINE]


@pytest.mark.parametrize("pictures", [5, 6, 7])
def test_multi_hop_shows_every_frame_once(pictures):
  tape = made_visuals(frames=10_000)
  for frames in PROTOCOLS["vcf-multihop"].lengths:
    needles = [needle_rows(20_000 + 4 * place) for place in range(pictures)]
    rows = contexts.multi_hop_rows(tape, frames, needles)
    assert rows[rows < 20_000].tolist() == list(range(frames))
    assert len(rows) == frames + 4 * pictures


def test_multi_hop_places_follow_the_published_rule():
  interval = 1000 / 6
  expected = [int(place * interval) for place in range(7)]
  assert contexts.multi_hop_borders(1000, 7) == expected
  assert expected[-1] == 1000


def test_the_first_picture_begins_and_the_last_ends():
  tape = made_visuals()
  needles = [needle_rows(5000 + 4 * place) for place in range(5)]
  rows = contexts.multi_hop_rows(tape, 1000, needles)
  assert rows[:4].tolist() == needles[0].tolist()
  assert rows[-4:].tolist() == needles[-1].tolist()


def test_a_chain_of_one_picture_is_refused():
  with pytest.raises(ValueError, match="2 pictures"):
    contexts.multi_hop_borders(1000, 1)


def test_a_short_haystack_repeats():
  tape = made_visuals(frames=20, real=8)
  assert tape.haystack.tolist() == [*range(8), *range(8), *range(4)]


def test_long_haystacks_are_shown_twice_as_published():
  source = HaystackSource(twice=True)
  assert source.published_count(10_000) == 5016
  assert source.published_count(7500) == 7500
  assert HaystackSource().published_count(10_000) == 10_000
