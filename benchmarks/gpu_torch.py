# SPDX-License-Identifier: Apache-2.0
"""The figures of the peers on a GPU: transformers and plain PyTorch, in bfloat16."""

from collections.abc import Mapping
import functools
import os
import time
from typing import Any

import torch
from torch import nn

from benchmarks import torch_models
from benchmarks.gpu_work import measure_work

DTYPE = torch.bfloat16
DEVICE = os.environ.get("BENCHMARK_DEVICE", "cuda")


def measure_llm(sizes: Mapping[str, Any]) -> None:
  """Prefill and decoding of the llm."""
  model = torch_models.qwen2(**sizes["llm"], dtype=DTYPE, device=DEVICE)
  vocab = sizes["llm"]["vocab"]
  for length in sizes["prefill"]:

    @torch.no_grad()
    def read_prompt(length=length):
      tokens = torch.randint(0, vocab, (1, length), device=DEVICE)
      seconds, _ = torch_models.timed_torch(
        lambda: model(input_ids=tokens, use_cache=True, logits_to_keep=1), DEVICE
      )
      return seconds

    measure_work(
      f"prefill {length}", "tokens/s", length, lambda read_prompt=read_prompt: read_prompt
    )
  tokens = sizes["tokens"]
  for context, batch in sizes["decode"]:

    def decode_batch(context=context, batch=batch):
      cache = torch_models.filled_cache(model, batch, context)
      return torch_models.decode_greedily(model, cache, batch, tokens, DEVICE)

    work = f"decode after {context}, batch {batch}"
    measure_work(work, "tokens/s", batch * tokens, lambda decode_batch=decode_batch: decode_batch)


def measure_answer(sizes: Mapping[str, Any]) -> None:
  """The question of gpu_filax.VideoQuestion with plain PyTorch and transformers."""
  answer = sizes["answer"]
  frames = answer["frames"]
  measure_work(
    f"answer about {frames} frames",
    "frames/s",
    frames,
    lambda: _question_round(sizes["llm"], **answer),
  )


def _question_round(llm_sizes, encoder: str, frames: int, part: int, tokens: int):
  tower, side, width = _clip_encoder(encoder, 23)
  llm_width = llm_sizes["width"]
  projector = torch_models.random_model(
    lambda: nn.Sequential(nn.Linear(width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width)),
    DTYPE,
    DEVICE,
  )
  llm = torch_models.qwen2(**llm_sizes, dtype=DTYPE, device=DEVICE)
  pictures = torch.randint(0, 256, (frames, side, side, 3), dtype=torch.uint8)
  heads = 4 if encoder == "tiny" else 16

  def encode(pixels):
    pixels = pixels.to(DEVICE).to(DTYPE).div(255).sub(0.45).div(0.225)
    clips = pixels.reshape(-1, 4, side, side, 3).permute(0, 4, 1, 2, 3)
    merged = torch_models.merge_tokens(tower(clips), 64, heads)
    return projector(merged).reshape(-1, llm_width)

  @torch.no_grad()
  def answer_once():
    start = time.perf_counter()
    visual = [encode(pixels) for pixels in pictures.split(part)]
    words = llm.get_input_embeddings()(torch.arange(40, device=DEVICE))
    x = torch.cat([words[:10], *visual, words[10:]])[None]
    torch_models.wait(DEVICE)
    encoded = time.perf_counter()
    output = llm(inputs_embeds=x, use_cache=True, logits_to_keep=1)
    torch_models.wait(DEVICE)
    prefilled = time.perf_counter()
    torch_models.decode_greedily(llm, output.past_key_values, 1, tokens, DEVICE)
    end = time.perf_counter()
    return dict(
      seconds=end - start,
      encode_s=encoded - start,
      prefill_s=prefilled - encoded,
      decode_s=end - prefilled,
      visual_tokens=x.shape[1] - 40,
    )

  return answer_once


def measure_training(sizes: Mapping[str, Any], compiled: bool = False) -> None:
  """A train step of each model that FiLax trains, without recomputation."""
  gib = 0.0
  if DEVICE == "cuda":
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
  for train in sizes["train"]:
    if gib < train["gib"]:
      continue

    def prepare_training(llm=train["llm"], length=train["tokens"]):
      model = torch_models.qwen2(**llm, dtype=DTYPE, device=DEVICE)
      return torch_models.TorchTraining(model, 1, length, compiled, DEVICE).step

    length = train["tokens"]
    work = f"train step {train['name']}, {length} tokens"
    measure_work(work, "tokens/s", length, prepare_training)


def measure_vision(sizes: Mapping[str, Any], compiled: bool = False) -> None:
  """Encoders; without compilation also token merging and K-Means."""
  siglip = sizes["siglip"]
  measure_work(
    f"siglip {siglip['variant']}, {siglip['batch']} pictures",
    "pictures/s",
    siglip["batch"],
    lambda: _siglip_round(compiled, **siglip),
  )
  for umt in sizes["umt"]:
    measure_work(
      f"umt {umt['variant']}, {umt['batch']} clips",
      "clips/s",
      umt["batch"],
      lambda umt=umt: _clip_round(compiled, **umt),
    )
  if compiled:
    return
  for clips, tokens, target in sizes["tome"]:
    x = torch.randn(clips, tokens, 1024, dtype=DTYPE, device=DEVICE)
    merge = functools.partial(torch_models.merge_tokens, x, target)
    measure_work(
      f"tome {tokens} to {target}, {clips} clips",
      "clips/s",
      clips,
      lambda merge=merge: _round(merge),
    )
  frames = sizes["kmeans"]
  x = torch.randn(frames, 1152, device=DEVICE)
  cluster = functools.partial(torch_models.cluster_frames, x, 32, 100)
  measure_work(f"kmeans {frames} frames", "frames/s", frames, lambda: _round(cluster))


def _round(function):
  return lambda: torch_models.timed_torch(function, DEVICE)[0]


def _siglip_round(compiled: bool, variant: str, layers: int, batch: int):
  sizes = {}
  side = 384
  if variant == "tiny":
    side = 42
    sizes = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, image_size=side)
  tower = torch_models.siglip(layers, DTYPE, DEVICE, **sizes)
  pixels = torch.randn(batch, 3, side, side, dtype=DTYPE, device=DEVICE)
  return _encoder_round(tower, compiled, dict(pixel_values=pixels))


def _clip_round(compiled: bool, variant: str, layers: int, batch: int):
  tower, side, _ = _clip_encoder(variant, layers)
  pixels = torch.randn(batch, 3, 4, side, side, dtype=DTYPE, device=DEVICE)
  return _encoder_round(tower, compiled, dict(pixels=pixels))


def _clip_encoder(variant: str, layers: int) -> tuple[nn.Module, int, int]:
  """(encoder, side of its pictures, width)."""
  sizes = dict(width=1024)
  if variant == "tiny":
    side = 32
    layers = 2
    sizes = dict(width=32, heads=4, mlp=64, patch=8)
  else:
    side = int(variant.removeprefix("L-"))
  tower = torch_models.random_model(
    lambda: torch_models.ClipEncoder(side, layers, **sizes), DTYPE, DEVICE
  )
  return tower, side, sizes["width"]


def _encoder_round(tower, compiled: bool, inputs):
  encode = torch.compile(tower) if compiled else tower

  @torch.no_grad()
  def encode_batch():
    return torch_models.timed_torch(lambda: encode(**inputs), DEVICE)[0]

  return encode_batch


GROUPS = dict(
  answer=measure_answer,
  llm=measure_llm,
  train=measure_training,
  vision=measure_vision,
  vision_compiled=functools.partial(measure_vision, compiled=True),
  train_compiled=functools.partial(measure_training, compiled=True),
)
