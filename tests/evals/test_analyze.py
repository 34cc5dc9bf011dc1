# SPDX-License-Identifier: Apache-2.0
"""Attention by layer against the decoder in float64; both figures are written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from parity.twins.dropout import Decoder
import pytest

import filax
from filax.cli import main as cli
from filax.configs import vcf_stage3
from filax.models import visual_dropout
from filax.models.components import build_video_lm
from filax.spec.dropout_stages import KINDS
from filax.studies import redundancy
from filax.testing import clips, manifests, tiny_checkpoint

pytestmark = pytest.mark.slow

SIZES = {"infer.sampling.frames": 16, "model.llm.depth": 2, "infer.max_new_tokens": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(
    tmp_path_factory.mktemp("run"), config_file=vcf_stage3, **SIZES
  )


def test_attention_of_every_layer_equals_the_decoder_in_float64():
  config = tiny_checkpoint.tiny_config(vcf_stage3)
  model, params = build_video_lm(config["model"]), tiny_checkpoint.tiny_parameters(config)
  x = jax.random.normal(jax.random.key(0), (1, 20, model.llm.width))
  ours = model.llm.apply({"params": params["llm"]}, x, method=visual_dropout.attention_by_layer)
  twin, h = Decoder(params["llm"], model.llm), np.float64(x[0])
  for n in range(model.llm.depth):
    weights, _ = twin.attention(twin.layer(n), h, np.arange(20))
    np.testing.assert_allclose(ours[n, 0], weights[:, -1].mean(0), atol=1e-5)
    h = twin.block(n, h, np.arange(20))
  np.testing.assert_allclose(jnp.sum(ours, -1), 1, atol=1e-5)


def test_attention_is_drawn(run, tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 60)
  assert not cli.main(
    [
      "analyze",
      "attention",
      "--checkpoint",
      run,
      "--video",
      video,
      "--question",
      "What?",
      "--out",
      str(tmp_path / "attention.png"),
    ]
  )
  report = json.loads((tmp_path / "attention.json").read_text())
  assert np.shape(report["groups"]) == (2, 4) and len(report["times"]) == 4
  np.testing.assert_allclose(np.sum(report["groups"], 1), report["visual"], rtol=1e-5)
  assert (tmp_path / "attention.png").read_bytes()[:4] == b"\x89PNG"


def test_redundancy_is_measured_at_every_layer(run, tmp_path):
  """Two answers are what the model says when it sees all tokens, one is not."""
  session = filax.load(run)
  clips.write_video(tmp_path / "a.mp4", 60)
  asked = ("What shape is on red?", "What colour is on blue?", "What shape is on blue?")

  def manifest(answers):
    return manifests.write_manifest(
      tmp_path / "m.json",
      [
        manifests.question_record(question, answer, video="a.mp4")
        for question, answer in zip(asked, answers, strict=True)
      ],
    )

  said = filax.evaluate(session, manifest("abc"), progress=False, batch=3)["answers"]
  path = manifest(["wrong", *(row["answer"] for row in said[1:])])
  rows = json.loads((tmp_path / "m.json").read_text())
  rows.insert(1, manifests.question_record("word " * 40_000, "x", video="a.mp4", id="long"))
  (tmp_path / "questions").mkdir()
  path = manifests.write_manifest(tmp_path / "questions" / "m.json", rows)
  assert not cli.main(
    [
      "analyze",
      "redundancy",
      "--checkpoint",
      run,
      "--manifest",
      path,
      "--root",
      str(tmp_path),
      "--ratio",
      "0.25",
      "--batch",
      "3",
      "--out",
      str(tmp_path / "redundancy.png"),
    ]
  )
  report = json.loads((tmp_path / "redundancy.json").read_text())
  assert report["skipped"] == 1 and report["bad_questions"][0].startswith("long: ")
  assert report["layers"] == [1] and report["whole"] == pytest.approx(2 / 3)
  for kind in KINDS:
    dropped = session.adjusted(dropout=f"1:{kind}:0.25")
    found = filax.evaluate(dropped, path, root=str(tmp_path), progress=False, batch=3)
    assert report[kind] == [found["accuracy"]]
  assert (tmp_path / "redundancy.png").read_bytes()[:4] == b"\x89PNG"
  with pytest.raises(ValueError, match="below 2"):
    redundancy.redundancy(session, path, layers=[2])
