# SPDX-License-Identifier: Apache-2.0
"""Attention by layer against the decoder in float64; both figures are written."""

import json

import clips
import jax
import jax.numpy as jnp
import numpy as np
from parity.twins.dropout import Decoder
import pytest
import small_checkpoint

from configs import vcf_stage3
import filax
from filax import __main__ as cli
from filax.build import build_video_lm
from filax.evals import analyze


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return small_checkpoint.write(
    tmp_path_factory.mktemp("run"), made=vcf_stage3, **{"infer.sampling.frames": 16})


def test_attention_of_every_layer_equals_the_decoder_in_float64():
  config = small_checkpoint.config(vcf_stage3)
  model, params = build_video_lm(config["model"]), small_checkpoint.parameters(config)
  x = jax.random.normal(jax.random.key(0), (1, 20, model.llm.width))
  ours = model.llm.apply({"params": params["llm"]}, x, method="attended")
  twin, h = Decoder(params["llm"], model.llm), np.float64(x[0])
  for n in range(model.llm.depth):
    weights, _ = twin.attention(twin.layer(n), h, np.arange(20))
    np.testing.assert_allclose(ours[n, 0], weights[:, -1].mean(0), atol=1e-5)
    h = twin.block(n, h, np.arange(20))
  np.testing.assert_allclose(jnp.sum(ours, -1), 1, atol=1e-5)


def test_attention_is_drawn(run, tmp_path):
  video = clips.write(tmp_path / "a.mp4", 60)
  assert not cli.main([
    "analyze", "attention", "--checkpoint", run, "--video", video, "--question", "What?",
    "--out", str(tmp_path / "attention.png")])
  report = json.loads((tmp_path / "attention.json").read_text())
  assert np.shape(report["groups"]) == (3, 4) and len(report["times"]) == 4
  np.testing.assert_allclose(np.sum(report["groups"], 1), report["visual"], rtol=1e-5)
  assert (tmp_path / "attention.png").read_bytes()[:4] == b"\x89PNG"


def test_redundancy_is_measured_at_every_layer(run, tmp_path, monkeypatch):
  asked = []

  def evaluate(model, params, manifest, **settings):
    asked.append(model.llm.stages)
    return dict(accuracy=1 - 0.1 * len(asked))

  monkeypatch.setattr("filax.evals.run.evaluate", evaluate)  # Tested for itself in test_run.
  assert not cli.main([
    "analyze", "redundancy", "--checkpoint", run, "--manifest", "m.json", "--ratio", "0.25",
    "--out", str(tmp_path / "redundancy.png")])
  report = json.loads((tmp_path / "redundancy.json").read_text())
  assert report["layers"] == [1, 2] and len(report["uniform"]) == len(report["attention"]) == 2
  assert [[(s.layer, s.kind, s.ratio) for s in stages] for stages in asked] == [
    [], [(1, "uniform", 0.25)], [(2, "uniform", 0.25)],
    [(1, "attention", 0.25)], [(2, "attention", 0.25)]]
  with pytest.raises(ValueError, match="below 3"):
    analyze.redundancy(filax.load(run)[0], {}, "m.json", layers=[3])
