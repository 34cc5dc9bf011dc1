# SPDX-License-Identifier: Apache-2.0
"""Answering with the kernels of all blocks in 8 or 4 bits."""

import jax
import numpy as np
import pytest

import filax
from filax.checkpoint.tree import flatten_tree
from filax.models import quantised
from filax.models.layers_apart import stacked_leaves
from filax.testing import tiny_checkpoint

pytest.importorskip("qwix")
pytestmark = pytest.mark.slow

PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


def stored_bytes(params):
  leaves = [x for path, x in flatten_tree(params).items() if "/layers/" in path and x.ndim > 2]
  return sum(x.nbytes for x in leaves)


@pytest.mark.parametrize("kind, share", [("int8", 0.35), ("nf4", 0.3)])
def test_it_answers_from_fewer_bytes(kind, share, folder):
  whole = filax.load(folder)
  loaded = filax.load(folder, quantise=kind)
  assert quantised.kind_in(loaded.params) == kind and not quantised.kind_in(whole.params)
  assert stored_bytes(loaded.params) < share * stored_bytes(whole.params)
  assert len(loaded.generate(PROMPTS, max_new_tokens=4).tokens) == len(PROMPTS)


def test_int8_stays_close(folder):
  """The last hidden states of a prompt, within a few percent."""

  def hidden(session):
    tokens = np.asarray([PROMPTS[0]])
    places = np.arange(tokens.shape[1])[None]

    def read(params, tokens, places):
      cache = session.model.apply(
        {"params": params}, 1, 8, method=lambda model, *sizes: model.llm.empty_cache(*sizes)
      )
      return session.model.apply({"params": params}, tokens, places, cache, method="extend")[0]

    return jax.jit(read)(session.params, tokens, places)

  exact = hidden(filax.load(folder))
  close = hidden(filax.load(folder, quantise="int8"))
  error = np.linalg.norm(exact - close) / np.linalg.norm(exact)
  assert 0 < error < 0.05


def test_the_same_on_a_mesh(folder):
  one = filax.load(folder, quantise="nf4")
  two = filax.load(folder, quantise="nf4", mesh=dict(data=-1, tensor=2))
  expected = dict(stacked_leaves(one.params))
  for path, x in stacked_leaves(two.params):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(expected[path]), err_msg=path)


def test_unknown_kinds_are_refused(folder):
  with pytest.raises(ValueError, match=r"quantise='int3' cannot be used. Set it to int8 or nf4"):
    filax.load(folder, quantise="int3")
