# SPDX-License-Identifier: Apache-2.0
"""Answers with visual dropout: prefill and decode against whole passes in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from parity.twins.dropout import Decoder
import pytest

from filax.infer import generate as generate_lib
from filax.infer.generate import generate
from filax.models.components import build_video_lm
from filax.spec import TEXT
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

LENGTHS, STAGES = (8, 16, 24, 32, 48), ((1, "uniform", 0.75), (2, "attention", 0.25))
CHANGES = {"model.llm.vocab": 120}


def made(stages=STAGES, positions="renumber"):
  config = tiny_checkpoint.tiny_config(**CHANGES)
  config["model"]["llm"] |= dict(dropout=stages, dropout_positions=positions)
  return build_video_lm(config["model"])


@pytest.fixture(scope="module")
def params():
  return tiny_checkpoint.tiny_parameters(tiny_checkpoint.tiny_config(**CHANGES), seed=3)


def prompt(length, visual, seed):
  """(tokens, visual index): `visual` rows of the table after the third token."""
  rng = np.random.default_rng(seed)
  index = np.full(length, TEXT)
  index[3 : 3 + visual] = np.arange(visual)
  return rng.integers(0, 120, length).tolist(), index


def table(width, rows, seed=1):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, 24, width)), jnp.float32)


def whole(model, params, tokens, index, rows):
  """Logits [L V] in float64, tokens dropped as the prompt's last one asks."""
  prompt_size = len(index)
  embedding = np.float64(np.asarray(params["llm"]["embed_tokens"]["embedding"]))
  x = embedding[np.asarray(tokens)]
  x[:prompt_size][index >= 0] = np.asarray(rows)[index[index >= 0]]
  visual = np.concatenate([index >= 0, np.zeros(len(tokens) - prompt_size, bool)])
  hidden, _ = Decoder(params["llm"], model.llm).run(
    x, visual, [prompt_size - 1], model.llm.stages, model.llm.dropout_positions == "renumber"
  )
  return hidden @ np.float64(np.asarray(params["llm"]["lm_head"]["kernel"]))[:, :120]


@pytest.mark.parametrize("positions", ["renumber", "keep"])
def test_every_step_after_a_drop_equals_the_whole_pass(params, positions):
  model = made(positions=positions)
  rows = table(model.llm.width, 1)
  tokens, index = prompt(30, 20, 0)
  answer = generate(
    model, params, [tokens], table=rows, visual_index=[index], max_new_tokens=8, lengths=LENGTHS
  )
  for _ in range(8):
    logits = whole(model, params, tokens, index, rows[0])
    tokens = [*tokens, int(logits[-1].argmax())]
  assert answer.tokens == [tokens[30:]]


@pytest.mark.parametrize("chunk", [8, 64])
def test_logits_and_cache_lengths_of_every_range(params, chunk):
  model = made()
  rows = table(model.llm.width, 2)
  (one, index), (two, index_two) = prompt(30, 20, 0), prompt(21, 11, 5)
  tokens = jnp.asarray(generate_lib.pad([one, two], 32, 0))
  where = jnp.asarray(generate_lib.pad([index, index_two], 32, TEXT))
  keep, left = generate_lib.dropout_schedule(
    model, np.array([30, 21]), np.asarray(where), 32, LENGTHS
  )
  keep = jnp.asarray(keep)
  assert left == (32, 16)  # 10 and 10 words beside 15 and 8, then 5 and 2 visual tokens.
  last, cache = jax.jit(
    lambda p: model.apply(
      {"params": p},
      tokens,
      jnp.array([30, 21]),
      rows,
      where,
      keep,
      left,
      4,
      chunk,
      method="prefill",
    )
  )(params)
  for n, (prompt_, at) in enumerate([(one, index), (two, index_two)]):
    want = whole(model, params, prompt_, at, rows[n])[-1]
    have = model.apply({"params": params}, last[n : n + 1, None], method="logits")[0, 0]
    np.testing.assert_allclose(have, want, atol=1e-4, rtol=1e-4)
  assert [c.length.tolist() for c in cache.ranges] == [[30, 21], [25, 18], [15, 12]]
  assert [c.slots for c in cache.ranges] == [36, 36, 20]
  assert cache.length.tolist() == [30, 21]


def test_a_batch_equals_single_prompts_with_and_without_pictures(params):
  model = made()
  rows = table(model.llm.width, 3)
  given = [prompt(30, 20, 0), prompt(21, 11, 5), prompt(9, 0, 7)]

  def ask(which):
    return generate(
      model,
      params,
      [given[n][0] for n in which],
      table=rows[jnp.asarray(which)],
      visual_index=[given[n][1] for n in which],
      max_new_tokens=5,
      lengths=LENGTHS,
    ).tokens

  assert ask([0, 1, 2]) == [ask([n])[0] for n in range(3)]


def test_off_is_the_plain_answer(params):
  rows = table(made().llm.width, 1)
  tokens, index = prompt(30, 20, 0)

  def say(model):
    return generate(
      model, params, [tokens], table=rows, visual_index=[index], max_new_tokens=8, lengths=LENGTHS
    ).tokens

  config = tiny_checkpoint.tiny_config(**CHANGES)["model"]
  assert say(made("off")) == say(build_video_lm(config))


def test_a_long_prompt_is_read_in_chunks_alike(params):
  model = made("off")
  tokens, _ = prompt(40, 0, 0)
  padded, counts = jnp.asarray([tokens + [0] * 8]), jnp.array([40])

  @functools.partial(jax.jit, static_argnums=0)
  def read(chunk):
    return model.apply(
      {"params": params},
      padded,
      counts,
      None,
      None,
      jnp.zeros((1, 0, 1), int),
      (),
      4,
      chunk,
      method="prefill",
    )

  (last, cache), (want, cache_too) = read(16), read(64)
  np.testing.assert_allclose(last, want, atol=1e-5)
  assert cache.length.tolist() == cache_too.length.tolist() == [40]
