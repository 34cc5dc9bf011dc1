# SPDX-License-Identifier: Apache-2.0
"""Training: tokens a second of a whole step, AdamW and clipping included."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.decode import TORCH

SIZES = {
  "512 wide": dict(
    width=512, depth=6, heads=8, kv_heads=2, head_dim=64, mlp=2048, vocab=32_768, tied=False
  ),
  "toy": dict(width=96, depth=3, heads=4, kv_heads=2, head_dim=24, mlp=288, vocab=512, tied=True),
}


def _filax(model: str, rows: int, length: int) -> Repetition:
  from benchmarks import models

  sizes = SIZES[model]
  batch = models.text_batch(rows, length, sizes["vocab"])
  run = models.TrainingRun(models.text_model(**sizes), batch)
  steps = _steps(model)

  def train_steps():
    seconds = sum(run.step() for _ in range(steps))
    return dict(seconds=seconds, amount=steps * rows * length, compile_s=run.compile_seconds)

  return train_steps


def _steps(model: str) -> int:
  """Steps of a repetition: several where one is short."""
  return 20 if model == "toy" else 1


def _eager(model: str, rows: int, length: int) -> Repetition:
  return _torch(model, rows, length, compiled=False)


def _compiled(model: str, rows: int, length: int) -> Repetition:
  return _torch(model, rows, length, compiled=True)


def _torch(model: str, rows: int, length: int, compiled: bool) -> Repetition:
  from benchmarks import torch_models

  run = torch_models.TorchTraining(torch_models.qwen2(**SIZES[model]), rows, length, compiled)
  steps = _steps(model)

  def train_steps():
    seconds = sum(run.step() for _ in range(steps))
    return dict(seconds=seconds, amount=steps * rows * length)

  return train_steps


ROWS = (
  BenchmarkRow(
    "train_step",
    "train step of a Qwen2, float32",
    "tokens/s",
    (
      Side(OURS, _filax),
      Side("torch eager", _eager, TORCH, threads=True),
      Side("torch.compile", _compiled, TORCH, threads=True),
    ),
    shapes=(
      dict(model="512 wide", rows=2, length=512),
      dict(model="toy", rows=8, length=108),
    ),
    full=(dict(model="512 wide", rows=1, length=4096),),
  ),
)
