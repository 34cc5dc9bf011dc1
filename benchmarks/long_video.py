# SPDX-License-Identifier: Apache-2.0
"""Peak memory of answering questions about videos of increasing length.

A tiny model with random weights.

  python -m benchmarks.long_video --frames 1000,10000 [--dropout 1:uniform:0.75]

Each length runs in a process of its own, over a video of that length that it creates first. What
grows with the frames is their merged tokens and the KV cache, which are printed beside the peak.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from filax import processes

QUESTION = "What shape is on red?"
FPS = 10


def main() -> None:
  made = argparse.ArgumentParser(description=__doc__)
  made.add_argument("--frames", default="1000,10000")
  made.add_argument("--dropout", default="off")
  made.add_argument("--one", help=argparse.SUPPRESS)
  args = made.parse_args()
  if args.one:
    print(json.dumps(measure(int(args.frames), args.dropout, pathlib.Path(args.one))))
    return
  with tempfile.TemporaryDirectory() as folder:
    for frames in args.frames.split(","):
      command = [
        sys.executable,
        "-m",
        "benchmarks.long_video",
        "--frames",
        frames,
        "--dropout",
        args.dropout,
        "--one",
        folder,
      ]
      done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
      print(done.stdout, end="")


def measure(frames: int, dropout: str, folder: pathlib.Path) -> dict:
  """MiB and seconds of answering about a video of `frames` frames."""
  import jax

  video = folder / f"{frames}.mp4"
  write_video(video, frames)
  session = tiny_session(frames, dropout)
  start = time.perf_counter()
  talk = session.conversation(str(video))
  encoded = time.perf_counter()
  encode_peak = peak()
  answer = talk.ask(QUESTION, max_new_tokens=8)
  llm = session.model.llm
  mib = 2**20
  cache = 2 * 4 * llm.depth * llm.kv_heads * llm.head_dim * answer.prompt_tokens / mib
  return dict(
    frames=frames,
    prompt_tokens=answer.prompt_tokens,
    peak_mib=round(peak()),
    encode_peak_mib=round(encode_peak),
    tokens_mib=round(talk.media.table.nbytes / mib, 1),
    cache_mib=round(cache, 1),
    encode_seconds=round(encoded - start, 1),
    answer_seconds=round(time.perf_counter() - encoded, 1),
    devices=jax.device_count(),
  )


def peak() -> float:
  """The peak memory of this process in MiB."""
  return processes.peak_memory() / 2**20


def tiny_session(frames: int, dropout: str):
  """VideoChat-Flash at debug size, and parameters drawn at random."""
  import jax

  from data_pipelines.text import tokenizers
  from filax.configs import vcf_stage3
  from filax.infer.processor import Processor
  from filax.infer.session import Session
  from filax.models import components

  c = vcf_stage3.get_config("debug").to_dict()
  c["infer"]["sampling"]["frames"] = frames
  model = components.build_video_lm(c["model"] | dict(encode_chunk=16), c["infer"]["selector"])
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "tokenizer.model")
    tokenizers.train_sentencepiece((f"user assistant {QUESTION} " * 9,), path, vocab_size=300)
    tokenizer = tokenizers.load_tokenizer(path)
  keys = iter(jax.random.split(jax.random.key(0), 999))
  params = jax.tree.map(
    lambda s: 0.2 * jax.random.normal(next(keys), s.shape, s.dtype),
    components.parameter_shapes(model),
  )
  session = Session(model, params, Processor(tokenizer, c["data"], c["infer"]))
  return session.adjusted(yarn=2.0, dropout=dropout)


def write_video(path: pathlib.Path, frames: int, side: int = 64) -> None:
  """Writes a video whose frames all differ."""
  import numpy as np

  from data_pipelines.media.encoder import write_h264

  pictures = (np.full((side, side, 3), n % 251, np.uint8) for n in range(frames))
  write_h264(path, pictures, FPS, {"g": "50"})


if __name__ == "__main__":
  main()
