# SPDX-License-Identifier: Apache-2.0
"""Attention of an answer to groups of frames: padding and averaging change nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.text import templates
import filax
from filax.infer.attended import group_attention
from filax.testing import clips, tiny_checkpoint

ANSWER = "circle square"


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  session = filax.load(tiny_checkpoint.write_checkpoint(folder))
  return session.conversation(clips.write_video(folder / "a.mp4"))


def weights_of(talk, turns, answer, queries):
  """Attention [layers L] without padding, of queries one at a time."""
  loaded = talk.loaded
  tokens, index = loaded.processor.encode_prompt(turns, [talk.media], answer)
  arguments = (jnp.asarray([tokens]), talk.media.table[None], jnp.asarray([index]))
  rows = []
  for query in queries:
    places = jnp.asarray([[query]])
    params = {"params": loaded.params}
    rows.append(loaded.model.apply(params, *arguments, places, method="attention_from")[:, 0])
  return np.mean(rows, 0), index


def test_attention_of_an_answer_is_the_mean_over_its_tokens(talk):
  turns = templates.question("What shape is on red?")
  prompt, _ = talk.loaded.processor.encode_prompt(turns, [talk.media])
  tokens, _ = talk.loaded.processor.encode_prompt(turns, [talk.media], ANSWER)
  assert len(tokens) > len(prompt) + 1
  ours = group_attention(talk.loaded, talk.media, turns, ANSWER)
  looking = range(len(prompt) - 1, len(tokens) - 1)
  weights, index = weights_of(talk, turns, ANSWER, looking)
  np.testing.assert_allclose(ours.visual, weights[:, index >= 0].sum(1), atol=1e-5)
  per_group = talk.loaded.model.layout().tokens_per_group
  for group in range(len(talk.media.groups)):
    share = weights[:, (index >= 0) & (index // per_group == group)].sum(1)
    np.testing.assert_allclose(ours.groups[:, group], share, atol=1e-5)


def test_without_an_answer_the_last_token_of_the_prompt_looks(talk):
  turns = templates.question("What colour is on blue?")
  ours = group_attention(talk.loaded, talk.media, turns)
  tokens, _ = talk.loaded.processor.encode_prompt(turns, [talk.media])
  weights, index = weights_of(talk, turns, "", [len(tokens) - 1])
  np.testing.assert_allclose(ours.visual, weights[:, index >= 0].sum(1), atol=1e-5)


def test_shares_of_groups_are_part_of_the_video_s(talk):
  attention = group_attention(talk.loaded, talk.media, templates.question("What?"), ANSWER * 30)
  assert (attention.groups >= 0).all()
  assert (attention.groups.sum(1) <= attention.visual + 1e-6).all()
  assert (attention.visual < 1).all()
