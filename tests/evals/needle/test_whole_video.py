# SPDX-License-Identifier: Apache-2.0
"""A context is what the model would see of an ordinary video with the same frames."""

import numpy as np
import pytest

from data_pipelines.sample import Turn
from data_pipelines.synthesis import needle
from filax.evals.needle import cells, contexts
from filax.evals.needle.cells import Cell
from filax.evals.needle.setup import NeedleOptions, prepare_test
from filax.evals.needle.visuals import HaystackSource, encode_visuals
from filax.infer import encode
from filax.infer.encoded_media import joined_table
from filax.infer.prefix import IndexedTokens, PlainPrefill, SharedPrefix, joined_tokens
from filax.infer.video import DecodedVideo

pytestmark = pytest.mark.slow

FRAMES = 24
DEPTH = 0.5
SEED = 3


@pytest.fixture(params=["vcf", "fila"])
def test_of(request):
  """A needle test of each family."""
  session = request.getfixturevalue(request.param)
  options = NeedleOptions("longva", lengths=(FRAMES,), depths=(DEPTH,), limit=1, seed=SEED)
  return prepare_test(session, options)


def needle_logits(test):
  """The logits of the first cell, as `filax evals niah` asks it."""
  source = HaystackSource(seed=SEED)
  visuals = encode_visuals(test.loaded, source, FRAMES, test.pictures)
  rows = cells.cell_rows(Cell("", FRAMES, DEPTH, 0), test.items[0], test.others, visuals)
  question = test.items[0].questions[0]
  frame = contexts.prompt_frame(test.loaded.processor, question.text, question.answer)
  reader = SharedPrefix(test.loaded, visuals.table)
  reader.read_context(joined_tokens([frame.before, contexts.as_visuals(rows)]))
  words = joined_tokens([contexts.as_visuals(visuals.end), frame.question])
  return reader.answer_logits(words, frame.answer), frame.answer


def video_of(test):
  """The haystack with the needle's frames in its middle."""
  size = test.loaded.model.encoder.size
  (haystack,) = needle.haystack_parts(SEED, "test", size, FRAMES, FRAMES)
  picture = test.pictures[test.items[0].needle_picture]
  count = 12  # Whole clips and whole groups of both families.
  unit = 4 if test.loaded.model.encoder.clip == 4 else 3
  clip = np.repeat(picture[None], unit, axis=0)
  frames = np.concatenate([haystack[:count], clip, haystack[count:]])
  times = np.arange(len(frames), dtype=np.float32)
  return DecodedVideo(frames, times, float(len(frames)))


def test_logits_are_those_of_the_whole_video(test_of):
  logits, answer = needle_logits(test_of)
  loaded = test_of.loaded
  media = encode.encode_video(loaded, video_of(test_of))
  turns = (Turn("user", (0, test_of.items[0].questions[0].text)),)
  tokens, index = loaded.processor.encode_prompt(turns, [media])
  plain = PlainPrefill(loaded, joined_table([media]))
  plain.read_context(IndexedTokens(np.asarray(tokens[:1]), index[:1]))
  rest = IndexedTokens(np.asarray(tokens[1:]), index[1:])
  np.testing.assert_allclose(logits, plain.answer_logits(rest, answer), atol=1e-4)
