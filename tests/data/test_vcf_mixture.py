# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash over a real mixture: videos, tiles of a picture, several pictures and text in one
packed row give the loss that they give one a row, with and without visual dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.models.components import build_video_lm
from filax.testing import corpora
from filax.train import step

pytestmark = pytest.mark.slow

SAMPLES = 9
STAGES = ((1, "uniform", 0.75), (2, "attention", 0.25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return corpora.write_corpus(tmp_path_factory.mktemp("corpus"))


def model(**llm):
  return build_video_lm(
    dict(
      encoder=dict(name="umt", variant="tiny"),
      selector=dict(name="clips", size=4),
      merger=dict(name="tome", tokens=4, heads=4),
      projector=dict(name="mlp", newline="none", pool_side=1),
      llm=dict(name="qwen2", variant="tiny", **llm),
    )
  )


def params(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example())["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def batch(folder, model, packed: bool) -> dict:
  """All samples: in one row, or one a row."""
  pipe = corpora.open_pipeline(
    folder,
    layout=model.layout(),
    batch=1 if packed else SAMPLES,
    packing=packed,
    rows=((64, 12, 1152, SAMPLES),) if packed else ((16, 8, 384, 1),),
    sampling=dict(name="uniform", frames=8, phase="ends"),
    time_prompt="vcf",
    images=dict(mode="anyres_nopad", tiles=36),
  )
  assert pipe.plan.row_count(0) == (1 if packed else SAMPLES)
  with pipe.batches(0) as batches:
    return jax.tree.map(jnp.asarray, next(batches))


@pytest.mark.parametrize(
  "llm",
  [
    dict(),
    dict(dropout=STAGES, dropout_queries="answers"),
    dict(dropout=STAGES, dropout_queries="released"),
  ],
  ids=["off", "answers", "released"],
)
def test_one_packed_row_equals_a_row_a_sample(folder, llm):
  made = model(**llm)
  shown, alone = (batch(folder, made, packed) for packed in (True, False))

  def own(key):
    return sorted(int((shown[key] == s).sum()) for s in range(1, SAMPLES + 1))

  assert own("frame_segment_ids") == [0, 0, 0, 8, 8, 8, 8, 8, 16]
  assert own("image_segment_ids")[-3:] == [0, 2, 7]  # Text; two squares; a view and 3 x 2 tiles.
  weights, loss = params(made), jax.jit(step.make_loss(made, "sample_mean", chunk=64))
  total, sums = loss(weights, shown, jax.random.key(0))
  total_too, sums_too = loss(weights, alone, jax.random.key(0))
  np.testing.assert_allclose(total, total_too, rtol=1e-5)
  for key in ("count", "supervised", "tokens", "frames", "images", "left", "num_bad"):
    assert sums[key] == sums_too[key], key
  assert sums["count"] == SAMPLES and not sums["num_bad"]
  assert (sums["left"] < sums["tokens"]) == bool(llm)
