# SPDX-License-Identifier: Apache-2.0
"""A question about a video file: from the file to the tokens of the answer.

The model is a VideoChat-Flash of 256 and 512 channels with random weights. The peer is the same
pipeline of decord, plain PyTorch and transformers.
"""

from typing import Any

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.decode import TORCH

QUESTION = "What shape is on red?"
TOKENS = 16  # Tokens of the answer.
KEPT = 4  # Visual tokens a frame.
PART = 128  # Frames that the peer encodes at a time.
SIDE = 112
ENCODER = dict(width=256, depth=4, heads=8, mlp=1024, patch=16)
LLM = dict(width=512, depth=4, heads=8, kv_heads=2, head_dim=64, mlp=2048, vocab=8192, tied=False)


def _session(frames: int) -> Any:
  """A session with random weights."""
  from benchmarks import models
  from benchmarks.scratch import scratch_folder
  from data_pipelines.text import tokenizers
  from filax.configs import vcf_stage3
  from filax.infer.processor import Processor
  from filax.infer.session import Session
  from filax.models import components
  from filax.models.layers_apart import answering_params

  config = vcf_stage3.get_config("debug").to_dict()
  config["infer"]["sampling"] = dict(name="uniform", frames=frames, phase="ends")
  encoder = dict(name="umt", size=SIDE, trained=(4, 7), **ENCODER)
  config["model"] |= dict(
    encoder=encoder,
    merger=dict(name="tome", tokens=KEPT, heads=ENCODER["heads"]),
    llm=dict(name="qwen2", positions=262_144, **LLM),
    encode_chunk=16,
  )
  model = components.build_video_lm(config["model"], config["infer"]["selector"])
  path = scratch_folder() / "words.model"
  tokenizers.train_sentencepiece((f"user assistant {QUESTION} " * 9,), path, vocab_size=300)
  params = answering_params(models.random_params(components.parameter_shapes(model)), free=True)
  processor = Processor(tokenizers.load_tokenizer(path), config["data"], config["infer"])
  return Session(model, params, processor)


def _filax(frames: int) -> Repetition:
  import time

  from benchmarks.scratch import moving_video

  video = moving_video(max(900, frames))
  session = _session(frames)
  apart = _phases_apart(session, video, frames)

  def answer_about_video():
    start = time.perf_counter()
    talk = session.conversation(video)
    answer = talk.ask(QUESTION, max_new_tokens=TOKENS)
    seconds = time.perf_counter() - start
    if answer.tokens != TOKENS:
      raise RuntimeError(f"The answer has {answer.tokens} tokens; that of the peer has {TOKENS}.")
    phases = dict(
      video_s=talk.seconds["read"] + talk.seconds["encode"],
      prefill_s=answer.seconds["prefill"],
      decode_s=answer.seconds["decode"],
    )
    return dict(seconds=seconds, amount=frames) | phases | apart

  return answer_about_video


def _phases_apart(session: Any, video: str, frames: int) -> dict[str, float]:
  """Seconds of reading, encoding and merging, each alone.

  Encoding and merging are measured on a part of the video."""
  import time

  import jax
  import numpy as np

  from benchmarks import models
  from data_pipelines.media.frames import read_frames
  from filax.ops import tome

  duration = max(900, frames) / 10
  times = (np.arange(frames) + 0.5) * duration / frames
  start = time.perf_counter()
  read_frames(video, times, SIDE)
  read = time.perf_counter() - start
  part = min(PART, frames)
  encoder = session.model.encoder
  clips = np.zeros((part // 4, 4, SIDE, SIDE, 3), np.uint8)
  encode = jax.jit(lambda params, clips: encoder.apply({"params": params}, clips))
  tokens = jax.block_until_ready(encode(session.params["encoder"], clips))
  encoded, _ = models.timed_call(lambda: encode(session.params["encoder"], clips))
  tokens = tokens.reshape(len(clips), -1, tokens.shape[-1])
  merge = jax.jit(lambda x: tome.merge_clips(x, 4 * KEPT, ENCODER["heads"]))
  jax.block_until_ready(merge(tokens))
  merged, _ = models.timed_call(lambda: merge(tokens))
  share = frames / part
  return dict(read_alone_s=read, encode_alone_s=encoded * share, merge_alone_s=merged * share)


def _peer(frames: int) -> Repetition:
  import time

  import decord
  import numpy as np
  import torch
  from torch import nn

  from benchmarks import torch_models
  from benchmarks.scratch import moving_video

  video = moving_video(max(900, frames))
  encoder = torch_models.ClipEncoder(SIDE, **ENCODER).eval()
  width = LLM["width"]
  projector = nn.Sequential(nn.Linear(ENCODER["width"], width), nn.GELU(), nn.Linear(width, width))
  llm = torch_models.qwen2(**LLM)

  def encode(pictures):
    pixels = torch.from_numpy(pictures).float().div(255).sub(0.45).div(0.225)
    clips = pixels.reshape(-1, 4, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3)
    merged = torch_models.merge_tokens(encoder(clips), 4 * KEPT, ENCODER["heads"])
    return projector(merged).reshape(-1, width)

  @torch.no_grad()
  def answer_about_video():
    start = time.perf_counter()
    reader = decord.VideoReader(video, width=SIDE, height=SIDE)
    places = np.linspace(0, len(reader) - 1, frames).round().astype(int)
    visual = []
    read_seconds = 0.0
    for first in range(0, frames, PART):
      before = time.perf_counter()
      pictures = reader.get_batch(places[first : first + PART]).asnumpy()
      read_seconds += time.perf_counter() - before
      visual.append(encode(pictures))
    words = llm.get_input_embeddings()(torch.arange(40))
    x = torch.cat([words[:20], *visual, words[20:]])[None]
    encoded = time.perf_counter()
    output = llm(inputs_embeds=x, use_cache=True, logits_to_keep=1)
    prefilled = time.perf_counter()
    torch_models.decode_greedily(llm, output.past_key_values, 1, TOKENS, "cpu")
    end = time.perf_counter()
    return dict(
      seconds=end - start,
      amount=frames,
      read_s=read_seconds,
      video_s=encoded - start,
      prefill_s=prefilled - encoded,
      decode_s=end - prefilled,
    )

  return answer_about_video


ROWS = (
  BenchmarkRow(
    "answer",
    "video file to answer, a small VideoChat-Flash",
    "frames/s",
    (
      Side(OURS, _filax),
      Side("decord + torch twin", _peer, (*TORCH, ("decord", "decord")), threads=True),
    ),
    shapes=(dict(frames=64), dict(frames=256)),
    full=(dict(frames=1000), dict(frames=10_000)),
    axis="frames",
  ),
)
