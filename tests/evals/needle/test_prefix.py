# SPDX-License-Identifier: Apache-2.0
"""Sharing a beginning changes no logits, and saves its tokens."""

import numpy as np
import pytest

from filax.evals.needle import contexts
from filax.infer import prefix
from filax.infer.generate import generate
from filax.infer.prefix import PlainPrefill, SharedPrefix, greedy_ids, joined_tokens

pytestmark = pytest.mark.slow

VISUAL = 1200  # More than a chunk.
QUESTION = "Find the frame of a card with a red band on top. What shape is on the card?"


@pytest.fixture(scope="module")
def table(vcf):
  rng = np.random.default_rng(0)
  return np.asarray(rng.normal(0, 1, (VISUAL + 17, vcf.model.llm.width)), np.float32)


@pytest.fixture(scope="module")
def frame(vcf):
  return contexts.prompt_frame(vcf.processor, QUESTION, "ring")


def context_of(frame, rows):
  return joined_tokens([frame.before, contexts.as_visuals(np.asarray(rows))])


def needle_at(place, length=VISUAL):
  haystack = np.arange(length)
  needle = np.arange(VISUAL, VISUAL + 16)
  return np.concatenate([haystack[:place], needle, haystack[place:]])


@pytest.fixture(scope="module")
def shared(vcf, frame, table):
  reader = SharedPrefix(vcf, table)
  reader.keep_base(context_of(frame, np.arange(VISUAL)))
  return reader


@pytest.mark.parametrize(
  "rows",
  [
    needle_at(VISUAL),
    needle_at(900),
    needle_at(0),
    np.arange(1100),
    needle_at(600),
    np.resize(np.arange(VISUAL, VISUAL + 16), 1100),
  ],
  ids=["end", "deep", "begin", "without", "middle", "grey"],
)
def test_logits_are_those_of_a_plain_run(vcf, frame, table, shared, rows):
  plain = PlainPrefill(vcf, table)
  logits = []
  for reader in (shared, plain):
    reader.read_context(context_of(frame, rows))
    logits.append(np.asarray(reader.answer_logits(frame.question, frame.answer)))
  np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)


def test_a_second_question_reads_only_itself(frame, shared):
  shared.read_context(context_of(frame, needle_at(300)))
  shared.answer_logits(frame.question, frame.answer)
  before = shared.tokens_read
  shared.read_context(context_of(frame, needle_at(300)))
  shared.answer_logits(frame.question, frame.answer)
  assert shared.tokens_read - before == len(frame.question.tokens) + len(frame.answer) - 1


def test_a_needle_at_the_end_reads_little(frame, shared):
  before = shared.tokens_read
  shared.read_context(context_of(frame, needle_at(VISUAL)))
  assert shared.tokens_read - before == 16


def test_depths_compile_nothing(frame, shared):
  shared.read_context(context_of(frame, needle_at(700)))
  count = prefix.READ.count + prefix.RESIZE.count
  for place in (600, 500, 100):
    shared.read_context(context_of(frame, needle_at(place)))
  assert prefix.READ.count + prefix.RESIZE.count == count


def test_teacher_forcing_agrees_with_generation(vcf, frame, table, shared):
  prompt = joined_tokens([context_of(frame, needle_at(50, 90)), frame.question])
  generated = generate(
    vcf.model,
    vcf.params,
    [prompt.tokens.tolist()],
    table=table[None],
    visual_index=[prompt.index],
    max_new_tokens=5,
    vocab=vcf.processor.tokenizer.vocab_size,
  )
  (answer,) = generated.tokens
  shared.read_context(context_of(frame, needle_at(50, 90)))
  forced = shared.answer_logits(frame.question, answer)
  assert greedy_ids(vcf, forced) == answer
  other = shared.answer_logits(frame.question, [1, 2, 3])
  assert greedy_ids(vcf, other)[0] == answer[0]


def test_a_question_without_a_context_is_an_error(vcf, frame, table):
  with pytest.raises(RuntimeError, match="read_context"):
    SharedPrefix(vcf, table).answer_logits(frame.question, frame.answer)
