# SPDX-License-Identifier: Apache-2.0
"""Positions with gaps: those of a plain loop, the same in every packing and process."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.packing import frame_sampling
from data_pipelines.packing.position_gaps import gap_generator, gapped_positions, visual_borders
from data_pipelines.packing.visual_order import NEWLINE
from filax.spec import TEXT, dropout_stages
from filax.testing import corpora

SPAN = 4000
STAGES = dropout_stages.parse_stages(((1, "uniform", 0.75), (2, "attention", 0.25)), 3)
ROWS = ((12, 4, 400, 4),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def opened(folder, **changes):
  """A pipeline with gaps."""
  settings = dict(rows=ROWS, position_gaps=SPAN) | changes
  return corpora.open_pipeline(folder, **settings)


def rows_of(pipe, epoch=0):
  """(PlanRow, arrays) of an epoch."""
  build = pipe.materialise()
  first = pipe.plan.planner.first_row(epoch)
  numbers = range(first, first + pipe.plan.row_count(epoch))
  return [(row, build(row)) for row in map(pipe.row, numbers)]


def sample_arrays(pipe, key="positions", epoch=0):
  """The values of every sample in an epoch, by the number of the sample."""
  values = {}
  for row, arrays in rows_of(pipe, epoch):
    for segment, number in enumerate(row.samples, 1):
      values[number] = arrays[key][arrays["segment_ids"] == segment]
  return values


def looped_positions(visual_index, pipe, number, epoch=0):
  """The positions of a sample, token by token, from the rows of the visual table it reads."""
  length = len(visual_index)
  layout = pipe.plan.layout
  (shape,) = pipe.plan.row_shapes
  first_image = layout.first_image(shape)
  newline = layout.newline_index(shape)
  borders = []
  for place, index in enumerate(visual_index):
    before = visual_index[place - 1] if place else TEXT
    if 0 <= index < first_image and index % layout.tokens_per_group == 0:
      borders.append(place)  # A group of frames begins.
    elif first_image <= index < newline and (index - first_image) % layout.tokens_per_image == 0:
      borders.append(place)  # A picture begins.
    elif index == TEXT and before != TEXT:
      borders.append(place)  # The text after a visual.
  rng = gap_generator(pipe.plan.seed, epoch, number)
  if not borders:
    return list(range(length))
  span = int(np.exp(rng.uniform(np.log(length), np.log(SPAN))))
  draws = sorted(rng.integers(0, span - length + 1, len(borders)).tolist())
  draws[-1] = span - length
  positions = []
  shift = 0
  for place in range(length):
    if place in borders:
      shift = draws[borders.index(place)]
    positions.append(place + shift)
  return positions


@pytest.mark.parametrize("newline", ["one_token", "frame", "none"])
def test_positions_are_those_of_a_plain_loop(folder, newline):
  layout = dataclasses.replace(corpora.LAYOUT, newline=newline)
  pipe = opened(folder, layout=layout)
  visual_index = sample_arrays(pipe, "visual_index")
  for number, positions in sample_arrays(pipe).items():
    expected = looped_positions(visual_index[number], pipe, number)
    np.testing.assert_array_equal(positions, expected, err_msg=f"sample {number}")


def test_the_tiles_of_a_picture_stay_together(folder):
  pipe = opened(folder, images=dict(mode="anyres", tiles=4), rows=((12, 8, 400, 4),))
  composer = pipe.plan.composer
  number = 3  # One wide picture.
  layouts = composer.timeline_layouts(pipe.plan.samples[number], number, 0)
  encoded = composer.encode_text(pipe.plan.samples[number], layouts)
  positions = composer.positions(encoded, layouts, number, 0)
  start, stop = encoded.spans[0]
  assert layouts[0].images > 2
  assert positions[-1] > 2 * len(positions)
  np.testing.assert_array_equal(np.diff(positions[start:stop]), 1)


def test_a_newline_is_no_border():
  """Of a video whose groups have a single token, and of a picture."""
  patterns = [np.array([0, 1, NEWLINE]), np.array([0, 1, NEWLINE, 2, 3, NEWLINE])]
  borders = visual_borders([(2, 5), (7, 13)], patterns, [1, 4])
  assert borders.tolist() == [2, 3, 5, 7, 13]


def test_gaps_do_not_depend_on_the_phase_of_frames():
  phases = [frame_sampling.random_phase(0, 1, sample) for sample in range(4)]
  draws = [gap_generator(0, 1, sample).random() for sample in range(4)]
  assert not set(phases) & set(draws)


def test_nothing_but_positions_depends_on_gaps(folder):
  times = dict(time_prompt="fila", sampling=dict(name="uniform", frames=6, phase="middle"))
  plain = rows_of(opened(folder, position_gaps=0, **times))
  gapped = rows_of(opened(folder, **times))
  for (_, arrays), (_, with_gaps) in zip(plain, gapped, strict=True):
    for key, values in arrays.items():
      if key != "positions":
        np.testing.assert_array_equal(values, with_gaps[key], err_msg=key)


def test_without_gaps_positions_count_tokens_and_the_plan_is_as_ever(folder):
  off = opened(folder, position_gaps=0)
  for positions in sample_arrays(off).values():
    np.testing.assert_array_equal(positions, np.arange(len(positions)))
  assert off.fingerprint == corpora.open_pipeline(folder, rows=ROWS).fingerprint


def test_gaps_are_part_of_the_fingerprint(folder):
  assert opened(folder).fingerprint != opened(folder, position_gaps=SPAN + 1).fingerprint


@pytest.mark.parametrize("stages", [(), STAGES], ids=["all tokens", "dropout"])
def test_packing_does_not_change_the_positions_of_a_sample(folder, stages):
  layout = dataclasses.replace(corpora.LAYOUT, stages=stages)
  packed = sample_arrays(opened(folder, layout=layout))
  alone = sample_arrays(opened(folder, layout=layout, packing=False))
  assert packed.keys() == alone.keys()
  for number, positions in packed.items():
    np.testing.assert_array_equal(positions, alone[number])


def test_a_resumed_run_and_every_process_write_the_same_rows(folder):
  expected = rows_of(opened(folder), epoch=1)
  resumed = opened(folder)
  part = resumed.materialise(seq_slice=(1, 2))
  for row, arrays in expected:
    np.testing.assert_array_equal(part(row)["positions"], arrays["positions"])


def test_every_epoch_and_seed_draws_other_gaps(folder):
  pipe = opened(folder)
  first = sample_arrays(pipe)[0]
  assert (sample_arrays(pipe, epoch=1)[0] != first).any()
  assert (sample_arrays(opened(folder, seed=1))[0] != first).any()


def test_spans_reach_the_limit_and_never_pass_it():
  borders = np.array([2, 6, 10])
  spans = []
  for sample in range(2000):
    rng = gap_generator(0, 0, sample)
    positions = gapped_positions(16, borders, SPAN, rng)
    assert (np.diff(positions) >= 1).all(), sample
    spans.append(positions[-1] + 1)
  assert max(spans) <= SPAN
  assert min(spans) >= 16
  # Log-uniform: as many below the geometric mean of both ends as above.
  assert np.median(spans) == pytest.approx(np.sqrt(16 * SPAN), rel=0.15)


def test_a_sample_of_text_has_no_gaps():
  positions = gapped_positions(5, np.zeros(0, int), SPAN, gap_generator(0, 0, 0))
  assert positions.tolist() == [0, 1, 2, 3, 4]
