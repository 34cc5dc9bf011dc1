# SPDX-License-Identifier: Apache-2.0
"""Vision encoders: pictures or clips a second, from pixels to features."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.decode import TORCH

PLAIN_TORCH = (("torch", "torch"),)


def _filax(name: str, variant: str, layers: int, count: int, clip: int) -> Repetition:
  import jax
  import numpy as np

  from benchmarks import models
  from filax.models import components

  encoder = components.build("encoder", dict(name=name, variant=variant, depth=layers))
  frames = np.zeros((count, clip, encoder.size, encoder.size, 3), np.uint8)
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), frames[:1])
  params = models.random_params(shapes["params"])
  encode = jax.jit(lambda params, frames: encoder.apply({"params": params}, frames))
  frames = jax.device_put(frames)

  def encode_batch():
    seconds, _ = models.timed_call(lambda: encode(params, frames))
    return dict(seconds=seconds, amount=count)

  return encode_batch


def _siglip(layers: int, count: int) -> Repetition:
  return _filax("siglip", "so400m-384", layers, count, 1)


def _umt(variant: str, layers: int, count: int) -> Repetition:
  return _filax("umt", variant, layers, count, 4)


def _torch_siglip(compiled: bool):
  def prepare_siglip(layers: int, count: int) -> Repetition:
    import torch

    from benchmarks import torch_models

    pixels = torch.randn(count, 3, 384, 384)
    return _torch_encoder(torch_models.siglip(layers), compiled, count, dict(pixel_values=pixels))

  return prepare_siglip


def _torch_umt(compiled: bool):
  def prepare_umt(variant: str, layers: int, count: int) -> Repetition:
    import torch

    from benchmarks import torch_models

    size = int(variant.removeprefix("L-"))
    pixels = torch.randn(count, 3, 4, size, size)
    encoder = torch_models.ClipEncoder(size, layers).eval()
    return _torch_encoder(encoder, compiled, count, dict(pixels=pixels))

  return prepare_umt


def _torch_encoder(encoder, compiled: bool, count: int, inputs) -> Repetition:
  import torch

  from benchmarks import torch_models

  run_encoder = torch.compile(encoder) if compiled else encoder

  @torch.no_grad()
  def encode_batch():
    seconds, _ = torch_models.timed_torch(lambda: run_encoder(**inputs))
    return dict(seconds=seconds, amount=count)

  return encode_batch


ROWS = (
  BenchmarkRow(
    "encoder_siglip",
    "SigLIP so400m at 384, pictures",
    "pictures/s",
    (
      Side(OURS, _siglip),
      Side("transformers eager", _torch_siglip(False), TORCH, threads=True),
      Side("transformers torch.compile", _torch_siglip(True), TORCH, threads=True),
    ),
    shapes=(dict(layers=1, count=4),),
    full=(dict(layers=4, count=4),),
  ),
  BenchmarkRow(
    "encoder_umt",
    "UMT-L, clips of 4 frames",
    "clips/s",
    (
      Side(OURS, _umt),
      Side("torch twin eager", _torch_umt(False), PLAIN_TORCH, threads=True),
      Side("torch twin torch.compile", _torch_umt(True), PLAIN_TORCH, threads=True),
    ),
    shapes=(dict(variant="L-224", layers=1, count=4),),
    full=(
      dict(variant="L-224", layers=4, count=4),
      dict(variant="L-448", layers=2, count=1),
    ),
  ),
)
