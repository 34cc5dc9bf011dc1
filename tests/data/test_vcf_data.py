# SPDX-License-Identifier: Apache-2.0
"""What VideoChat-Flash shows its llm: prompts to the character, frames to the index, pictures."""

import numpy as np
from PIL import Image
import pytest

from data_pipelines.packing import frame_sampling, tiles, visual_order
from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates, tokenizers
from filax.spec import VisualLayout
from filax.testing import tiny_tokenizer

VIDEO = templates.VisualText(4, 12.34, times=tuple(range(64)), group_times=tuple(range(16)))
RELEASED = dict(name="dynamic_fps", frames=512, low=64, multiple=8, phase="released")
SYSTEM = "You are a helpful assistant."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return tokenizers.load_tokenizer(
    tiny_tokenizer.write_qwen_tokenizer(tmp_path_factory.mktemp("bpe"))
  )


def said(tokenizer, time_prompt, parts=(0, "\nWhat?")):
  encoded = templates.encode_prompt(
    (Turn("user", parts),), tokenizer, system=SYSTEM, time_prompt=time_prompt, visuals=[VIDEO]
  )
  ((start, stop),) = encoded.spans

  def decode(ids):
    return tokenizer.decode(ids, skip_special=False)

  return decode(encoded.tokens[:start]) + "<image>" + decode(encoded.tokens[stop:])


def test_prompts_of_training_and_of_the_release_to_the_character(tokenizer):
  head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
  message = "The video lasts for 12.34 seconds, and 64 frames are uniformly sampled from it."
  tail = "<|im_end|>\n<|im_start|>assistant\n"
  assert said(tokenizer, "vcf") == f"{head}{message} \nWhat?{tail}"
  assert said(tokenizer, "vcf_released") == f"{head}{message} What?{tail}"
  assert said(tokenizer, "vcf", ("What?", 0)) == f"{head}{message} \nWhat?{tail}"


def test_the_answer_is_what_an_assistant_says(tokenizer):
  sample = Sample("x", (Turn("user", (0, "\nWhat?")), Turn("assistant", ("Bars, two.",))), ((),))
  encoded = templates.encode_conversation(sample, tokenizer, labels="llava", visuals=[VIDEO])
  assert tokenizer.decode(encoded.tokens[encoded.answers]) == "Bars, two."
  assert (encoded.labels & encoded.answers).sum() == encoded.answers.sum() < encoded.labels.sum()


@pytest.mark.parametrize(
  "seconds, released, training",
  [
    (1, 24, 28),
    (2, 56, 60),
    (5, 64, 64),
    (64, 64, 64),
    (70, 64, 68),
    (100, 96, 100),
    (300, 296, 300),
    (512, 512, 512),
    (4000, 512, 512),
  ],
)
def test_counts_of_the_release_at_30_frames_a_second(seconds, released, training):
  extent = frame_sampling.Extent(float(seconds), seconds - 1 / 30, 30 * seconds)
  assert frame_sampling.frame_count(RELEASED, extent, 4) == released
  assert frame_sampling.frame_count(RELEASED | dict(multiple=4), extent, 4) == training


def test_frames_of_the_release():
  extent = frame_sampling.Extent(100 / 30, 99 / 30, 100)
  times = frame_sampling.sample_times(RELEASED, 8, extent)
  assert np.floor(times * 30 + 1e-6).astype(int).tolist() == [5, 18, 30, 43, 55, 68, 80, 93]
  one = frame_sampling.Extent(0.1, 0.1, 3)  # Three frames, then the last again.
  np.testing.assert_allclose(
    frame_sampling.sample_times(RELEASED, 4, one), [1 / 60, 0.05, 5 / 60, 5 / 60]
  )


def test_other_samplers():
  extent = frame_sampling.Extent(20.0, 19.9, 200)

  def count(**how):
    return frame_sampling.frame_count(dict(phase="middle", **how), extent, 4)

  assert count(name="dense_sparse", frames=512, low=16) == 300
  assert count(name="dense_sparse", frames=512, low=16, short=10.0) == 20
  assert count(name="first", frames=512) == 20 and count(name="first", frames=8) == 8
  first = frame_sampling.sample_times(dict(name="first", frames=8, phase="middle"), 8, extent)
  np.testing.assert_array_equal(first, range(8))


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(multiple=6), r"config\.data\.sampling\.multiple=6 is not a multiple of the 4"),
    (dict(frames=510), r"sampling\.frames=510 is not a multiple"),
    (dict(colour=3), "unexpected keyword argument 'colour'"),
    (dict(phase="late"), r"sampling\.phase='late'"),
  ],
)
def test_samplings_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    frame_sampling.frame_count(RELEASED | changes, frame_sampling.Extent(9.0, 8.9, 90), 4)


def released_canvas(width, height, size):
  """The released choice among canvases of 1 to 6 tiles each way: width outer, height inner."""
  best, most, least = None, 0, float("inf")
  for wide in range(1, 7):
    for high in range(1, 7):
      scale = min(wide * size / width, high * size / height)
      kept = min(int(width * scale) * int(height * scale), width * height)
      waste = wide * high * size * size - kept
      if kept > most or (kept == most and waste < least):
        best, most, least = (high, wide), kept, waste
  return best


@pytest.mark.parametrize("size", [(30, 20), (640, 480), (100, 900), (24, 24), (700, 699)])
def test_single_pictures_fill_their_canvas(size):
  width, height = size
  views = tiles.views(width, height, dict(mode="anyres_nopad", tiles=36), 24, alone=True)
  assert (views.rows, views.columns) == released_canvas(width, height, 24)
  picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
  shown, image = tiles.pixels(picture, views, 24), Image.fromarray(picture)
  wide, high = 24 * views.columns, 24 * views.rows
  np.testing.assert_array_equal(shown[0], image.resize((24, 24), Image.Resampling.BICUBIC))
  whole = np.asarray(image.resize((wide, high), Image.Resampling.BICUBIC))
  for n in range(views.tiles):
    row, column = divmod(n, views.columns)
    np.testing.assert_array_equal(
      shown[1 + n], whole[24 * row : 24 * row + 24, 24 * column : 24 * column + 24]
    )
  layout = VisualLayout(24, 4, (8, 8), (8, 8), "none")
  tokens = 64 + np.arange(views.tiles * 64).reshape(views.rows, views.columns, 8, 8)
  np.testing.assert_array_equal(
    visual_order.image(views, layout), [*range(64), *tokens.transpose(0, 2, 1, 3).ravel()]
  )


def test_several_pictures_are_padded_with_the_mean():
  views = tiles.views(40, 20, dict(mode="anyres_nopad", tiles=36), 24, alone=False)
  picture = np.zeros((20, 40, 3), np.uint8)
  shown = tiles.pixels(picture, views, 24)
  square = np.full((40, 40, 3), (123, 116, 103), np.uint8)
  square[10:30] = 0
  want = Image.fromarray(square).resize((24, 24), Image.Resampling.BICUBIC)
  assert shown.shape[0] == views.count == 1
  np.testing.assert_array_equal(shown[0], want)
