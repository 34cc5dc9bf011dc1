# SPDX-License-Identifier: Apache-2.0
"""Generation against plain forward passes: the same tokens in any batch, bucket and cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.configs import common
from filax.infer import compiled, decoding, lengths
from filax.infer import generate as generate_lib
from filax.infer.generate import generate
from filax.infer.loaded import LoadedModel
from filax.models.components import build_video_lm
from filax.spec import TEXT
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

LENGTHS = (16, 32, 64)


@pytest.fixture(scope="module")
def model():
  return build_video_lm(tiny_checkpoint.tiny_config(**{"model.llm.vocab": 120})["model"])


@pytest.fixture(scope="module")
def params(model):
  config = tiny_checkpoint.tiny_config(**{"model.llm.vocab": 120})
  return tiny_checkpoint.tiny_parameters(config, seed=3)


@pytest.fixture(scope="module")
def forward(model, params):
  """Logits [L V] of a whole sequence, without a cache; padded so that it compiles once."""

  def run(tokens, table, index):
    hidden, _ = model.apply({"params": params}, tokens, table, index, method=through)
    return model.apply({"params": params}, hidden, method="logits")

  def through(model, tokens, table, index):
    x = model.llm.embed(tokens)
    x = jnp.where((index >= 0)[..., None], table[0][jnp.maximum(index, 0)], x)
    return model.llm(x, jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape))

  run = jax.jit(run)

  def call(tokens, table=None, index=None):
    table = jnp.zeros((1, 4, model.llm.width)) if table is None else table
    index = np.full(len(tokens), TEXT) if index is None else index
    index = np.concatenate([index, np.full(len(tokens) - len(index), TEXT)])
    pad = (0, 64 - len(tokens))
    out = run(
      jnp.asarray(np.pad(tokens, pad))[None],
      table,
      jnp.asarray(np.pad(index, pad, constant_values=TEXT))[None],
    )
    return out[0, : len(tokens)]

  return call


def prompts(*lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.integers(0, 120, n).tolist() for n in lengths]


def test_greedy_equals_the_argmax_of_whole_forward_passes(model, params, forward):
  (prompt,) = prompts(9)
  made = generate(model, params, [prompt], max_new_tokens=12, lengths=LENGTHS)
  for _ in range(12):
    prompt = [*prompt, int(forward(prompt)[-1].argmax())]
  assert made.tokens == [prompt[9:]] and made.stopped == [False]


def test_prefill_and_decode_equal_the_whole_forward_pass_at_every_step(model, params, forward):
  tokens = prompts(20)[0]
  want = forward(tokens)
  cache = model.llm.empty_cache(1, 32)
  step = jax.jit(
    lambda tokens, at, cache, lengths: model.apply(
      {"params": params}, tokens, at, cache, lengths, method=read
    )
  )

  def read(model, tokens, at, cache, lengths):
    hidden, cache = model.extend(tokens, at, cache, lengths)
    return model.logits(hidden), cache

  padded = jnp.asarray([tokens[:7] + [5] * 5])
  logits, cache = step(padded, jnp.arange(12)[None], cache, jnp.array([7]))
  np.testing.assert_allclose(logits[0, :7], want[:7], atol=1e-5, rtol=1e-5)
  for i in range(7, 20):
    logits, cache = step(jnp.asarray([[tokens[i]]]), cache.length[:, None], cache, jnp.array([1]))
    np.testing.assert_allclose(logits[0, 0], want[i], atol=1e-5, rtol=1e-5)


def test_a_batch_of_different_lengths_equals_single_prompts(model, params):
  rows = prompts(3, 14, 9, 1)
  for settings in (dict(), dict(temperature=1.5, top_p=0.9, top_k=30, seed=4)):
    batch = generate(model, params, rows, max_new_tokens=8, lengths=LENGTHS, **settings)
    single = [
      generate(model, params, [row], max_new_tokens=8, lengths=LENGTHS, **settings)
      for row in (rows if not settings else rows[:1])
    ]
    assert batch.tokens[: len(single)] == [one.tokens[0] for one in single]


def test_pictures_are_spliced_into_the_prompt(model, params, forward):
  rng = np.random.default_rng(1)
  table = jnp.asarray(rng.normal(size=(2, 4, model.llm.width)), jnp.float32)
  rows = prompts(6, 11)
  index = [[TEXT, 0, 1, 2, 3, TEXT], [TEXT] * 4 + [3, 1] + [TEXT] * 5]
  made = generate(
    model, params, rows, table=table, visual_index=index, max_new_tokens=5, lengths=LENGTHS
  )
  for row, (prompt, where) in enumerate(zip(rows, index, strict=True)):
    for _ in range(5):
      prompt = [*prompt, int(forward(prompt, table[row][None], np.array(where))[-1].argmax())]
    assert made.tokens[row] == prompt[-5:]


def test_a_stop_id_ends_its_row_only(model, params):
  rows = prompts(3, 9)
  free = generate(model, params, rows, max_new_tokens=12, lengths=LENGTHS).tokens
  stop = next(t for t in free[0] if t not in free[1])
  made = generate(model, params, rows, max_new_tokens=12, stop=[stop, 119], lengths=LENGTHS)
  assert made.tokens == [free[0][: free[0].index(stop)], free[1]]
  assert made.stopped == [True, False]


def test_seeds_repeat_and_differ(model, params):
  def run(seed):
    return generate(
      model, params, prompts(5), max_new_tokens=10, temperature=2.0, seed=seed, lengths=LENGTHS
    ).tokens

  assert run(1) == run(1) != run(2)


def test_ids_beyond_the_vocabulary_are_never_produced(model, params):
  for settings in (dict(), dict(temperature=9.0)):
    made = generate(
      model, params, prompts(4, 5), max_new_tokens=12, vocab=7, lengths=LENGTHS, **settings
    )
    assert max(map(max, made.tokens)) < 7


def test_padding_rows_of_the_table_are_never_produced(model, params):
  kernel = params["llm"]["embed_tokens"]["embedding"].at[120:].set(100.0)
  params = params | {"llm": params["llm"] | {"embed_tokens": {"embedding": kernel}}}
  made = generate(
    model, params, prompts(4), max_new_tokens=12, temperature=9.0, vocab=10**6, lengths=LENGTHS
  )
  assert max(made.tokens[0]) < 120


def test_a_bucket_compiles_once(model, params, capsys):
  def counts():
    return (generate_lib.PREFILL.count, decoding.DECODE.count)

  def make(length, new):
    return generate(model, params, prompts(length) * 3, max_new_tokens=new, lengths=LENGTHS)

  make(4, 2)
  before = counts()
  for length, new in ((5, 3), (16, 16), (1, 9)):
    make(length, new)
  assert counts() == before
  capsys.readouterr()
  make(17, 3)
  assert counts() == (before[0] + 1, before[1] + 1)
  assert "compiled prefill 3 x 32" in capsys.readouterr().err


def test_models_that_see_differently_share_programs(model, params):
  generate(model, params, prompts(4), max_new_tokens=2, lengths=LENGTHS)
  before = decoding.DECODE.count
  other = model.clone(selector=model.selector.clone(size=6))
  generate(other, params, prompts(4), max_new_tokens=2, lengths=LENGTHS)
  assert decoding.DECODE.count == before


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(max_new_tokens=0), "max_new_tokens=0"),
    (dict(temperature=-1.0), "temperature=-1.0"),
    (dict(temperature=float("nan")), "temperature=nan"),
    (dict(top_p=0.0), "top_p=0.0"),
    (dict(top_k=-2), "top_k=-2"),
  ],
)
def test_settings_that_cannot_be_are_named(model, params, settings, message):
  with pytest.raises(ValueError, match=message):
    generate(model, params, prompts(4), lengths=LENGTHS, **settings)


def test_what_is_too_long_or_empty_says_so(model, params):
  with pytest.raises(ValueError, match=r"exceed the context of 32768.*config\.model\.llm\.yarn"):
    generate(model, params, prompts(32_760), max_new_tokens=64)
  with pytest.raises(ValueError, match=r"largest bucket, 64.*config\.infer\.lengths"):
    generate(model, params, prompts(65), lengths=LENGTHS)
  with pytest.raises(ValueError, match="at least one prompt"):
    generate(model, params, [[1], []])
  with pytest.raises(ValueError, match="at least one prompt"):
    generate(model, params, [])


def test_yarn_stretches_the_context(model):
  longer = model.clone(llm=model.llm.clone(yarn=(4.0, 1000)))
  assert generate_lib.context_length(longer) == 4000
  with_options = model.clone(llm=model.llm.clone(yarn=(4.0, 1000, (("beta_fast", 16.0),))))
  assert generate_lib.context_length(with_options) == 4000


def test_another_factor_of_yarn_stretches_the_trained_context(model, params):
  """A released llm with YaRN may give its stretched context as its positions."""
  options = (("attention_factor", 1.1), ("beta_fast", 16.0))
  llm = model.llm.clone(yarn=(4.0, 1000, options), positions=4000)
  loaded = LoadedModel(model.clone(llm=llm), params, None)
  assert loaded.adjusted(yarn=8.0).model.llm.yarn == (8.0, 1000, (("beta_fast", 16.0),))
  assert generate_lib.context_length(loaded.adjusted(yarn=1.0).model) == 1000
  with pytest.raises(ValueError, match=r"context of 4000.*yarn=\(factor, 1000\)"):
    generate(loaded.model, params, prompts(4000), max_new_tokens=64)


def test_buckets_round_up():
  assert [compiled.bucket(n, LENGTHS, "x") for n in (1, 16, 17, 64)] == [16, 16, 32, 64]


def test_the_lengths_of_the_configs_are_the_default_ones():
  """Configs import no code of FiLax, so the lengths are computed in both places."""
  for longest in (32_768, 262_144, 1_048_576):
    assert common.prompt_lengths(longest) == lengths.prompt_lengths(longest)


def test_a_prompt_with_a_power_of_two_of_visual_tokens_is_padded_little():
  for frames in (256, 512, 1024, 2048, 4096, 8192):
    visual = 16 * frames
    assert compiled.bucket(visual + 300, lengths.LENGTHS, "x") == visual + 512
