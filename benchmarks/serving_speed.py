# SPDX-License-Identifier: Apache-2.0
"""Time to the first token, and tokens a second, of 1, 8 and 32 clients at a time.

  python -m benchmarks.serving_speed
  python -m benchmarks.serving_speed --checkpoint runs/demo/stage2 --video FILE

The default is a random model of the demo's size, which is as fast as the trained one, and a video
of ten seconds. Starts `filax serve` with batches of 32, and once more with batches of 1, which
shows what batching gains. Every client asks about the same video, which is encoded once. Prints a
table, and writes it as JSON to --out.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any

from benchmarks.serving_client import StreamedReply, ask_all, running_server
from filax.configs import fila_toy
from filax.testing import clips, tiny_checkpoint

CLIENTS = (1, 8, 32)
HEAD = f"{'batch':>6} {'clients':>8} {'first token s':>14} {'tokens/s':>9} {'requests/s':>11}"


def main(argv: Sequence[str] | None = None) -> None:
  """Measures both servers."""
  args = parse_arguments(argv)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    args.checkpoint = args.checkpoint or demo_checkpoint(folder / "demo")
    args.video = args.video or clips.write_video(folder / "a.mp4", 100, width=320, height=240)
    measure_servers(args)


def measure_servers(args: argparse.Namespace) -> None:
  """Measures both servers, and prints and writes the table."""
  rows = []
  print(HEAD)
  for batch in (32, 1):
    folder = str(pathlib.Path(args.video).resolve().parent)
    options = ["--limit", f"batch={batch}", "--media-folder", folder]
    with running_server(args.checkpoint, *options) as server:
      for clients in CLIENTS:
        ask_all(server.url, request_bodies(args, clients), clients)  # Compiles.
        start = time.perf_counter()
        bodies = request_bodies(args, max(args.requests, 2 * clients))
        replies = ask_all(server.url, bodies, clients)
        rows.append(summary(batch, clients, replies, time.perf_counter() - start))
        print(row_line(rows[-1]), flush=True)
  if args.out:
    pathlib.Path(args.out).write_text(json.dumps(rows, indent=2))


class DemoConfig:
  """The demo's config at its full size, for write_checkpoint."""

  @staticmethod
  def get_config(size: str):
    """The config of the demo; `size` is that of tests."""
    del size
    return fila_toy.get_config()


def demo_checkpoint(folder: pathlib.Path) -> str:
  """Writes a random model of the demo's size."""
  changes: dict[str, Any] = {"infer.selector.steps": 30}
  return tiny_checkpoint.write_checkpoint(folder, config_file=DemoConfig, **changes)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  """The settings of a run."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.serving_speed",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", default="", help="default: random weights")
  parser.add_argument("--video", default="", help="default: one that is drawn")
  parser.add_argument("--tokens", type=int, default=64, help="of each answer")
  parser.add_argument("--requests", type=int, default=32, help="at least; twice the clients")
  parser.add_argument("--out", default="", help="a JSON file for the table")
  return parser.parse_args(argv)


def request_bodies(args: argparse.Namespace, count: int) -> list[dict[str, Any]]:
  """Questions about the video with sampled answers of one length."""
  url = pathlib.Path(args.video).resolve().as_uri()
  bodies = []
  for seed in range(count):
    content = [
      {"type": "video_url", "video_url": {"url": url}},
      {"type": "text", "text": "What shape is on red?"},
    ]
    bodies.append(
      dict(
        messages=[{"role": "user", "content": content}],
        max_tokens=args.tokens,
        temperature=2.0,
        seed=seed,
      )
    )
  return bodies


def summary(
  batch: int, clients: int, replies: Sequence[StreamedReply], seconds: float
) -> dict[str, float]:
  """A row of the table. Raises RuntimeError if a request failed."""
  if any(reply.status != 200 for reply in replies):
    raise RuntimeError("A request failed.")
  tokens = sum(reply.tokens for reply in replies)
  return dict(
    batch=batch,
    clients=clients,
    first_token_seconds=statistics.median(reply.first_seconds for reply in replies),
    tokens_per_second=tokens / seconds,
    requests_per_second=len(replies) / seconds,
  )


def row_line(row: dict[str, float]) -> str:
  """A row as a line."""
  return (
    f"{row['batch']:>6} {row['clients']:>8} {row['first_token_seconds']:>14.3f} "
    f"{row['tokens_per_second']:>9.0f} {row['requests_per_second']:>11.1f}"
  )


if __name__ == "__main__":
  main()
