# SPDX-License-Identifier: Apache-2.0
"""Asks a server 2,000 times, 200 clients at a time, and watches its memory.

  python -m benchmarks.serving_soak          # `make soak`; a tiny random model
  python -m benchmarks.serving_soak --requests 400 --clients 50

Requests are of every kind: with and without a video, several answers, small and large counts of
frames, and bad ones. Prints the memory after every tenth of the requests. Ends with an error if a
reply is not the expected one, or if the memory of the last half grows by more than --growth.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys
import tempfile
from typing import Any

from benchmarks.serving_client import RunningServer, ask_all, running_server
from filax.testing import clips, tiny_checkpoint

MEBIBYTE = 1 << 20
PARTS = 10  # The requests are sent in this many parts; memory is read after each.


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the requests; returns the exit code."""
  args = parse_arguments(argv)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    checkpoint = args.checkpoint or tiny_checkpoint.write_checkpoint(folder / "tiny")
    for number in range(4):
      clips.write_video(folder / f"{number}.mp4", 30 + 10 * number)
    options = ["--media-folder", name, "--limit", "cache_bytes=1000000"]
    with running_server(checkpoint, *options) as server:
      return soak(server, folder, args)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  """The settings of a run."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.serving_soak",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", default="", help="default: a tiny random model")
  parser.add_argument("--requests", type=int, default=2000)
  parser.add_argument("--clients", type=int, default=200)
  parser.add_argument("--growth", type=float, default=0.03, help="of memory that is allowed")
  return parser.parse_args(argv)


def soak(server: RunningServer, folder: pathlib.Path, args: argparse.Namespace) -> int:
  """Asks all requests and judges the memory."""
  bodies = []
  statuses = []
  for number in range(args.requests):
    body, status = request_body(folder, number)
    bodies.append(body)
    statuses.append(status)
  ask_all(server.url, bodies[:64], 64)  # Compiles the programs of all kinds and batches.
  memory = [server.resident_bytes()]
  every = max(1, args.requests // PARTS)

  def note_memory(count: int) -> None:
    if count % every == 0:
      memory.append(server.resident_bytes())
      print(f"{count} replies, {memory[-1] / MEBIBYTE:.0f} MiB", flush=True)

  replies = ask_all(server.url, bodies, args.clients, note_memory)
  expected = sorted(statuses)
  received = sorted(reply.status for reply in replies)
  half = memory[len(memory) // 2]
  growth = memory[-1] / half - 1
  print(f"{len(replies)} replies; memory grew by {growth:.1%} over the last half")
  if received != expected:
    print("Some replies have another status than expected.", file=sys.stderr)
    return 1
  return int(growth > args.growth)


def request_body(folder: pathlib.Path, number: int) -> tuple[dict[str, Any], int]:
  """(a request, its expected status); the kinds take turns."""
  kind = number % 8
  url = (folder / f"{number % 4}.mp4").as_uri()
  text = {"type": "text", "text": f"What shape is on red, question {number % 50}?"}
  fields: dict[str, Any] = dict(max_tokens=4 + number % 12, temperature=1.0, seed=number)
  status = 200
  parts: list[dict[str, Any]] = []
  if kind in (0, 1, 2):
    parts = [{"type": "video_url", "video_url": {"url": url}}]
  elif kind == 3:
    parts = [{"type": "video_url", "video_url": {"url": url, "max_frames": 6 + number % 3 * 6}}]
  elif kind == 4:
    fields["n"] = 2
  elif kind == 5:
    fields |= dict(repetition_penalty=1.2, stop=["circle"])
  elif kind == 6:
    parts = [{"type": "video_url", "video_url": {"url": f"{url}.gone"}}]
    status = 404
  return dict(messages=[{"role": "user", "content": [*parts, text]}], **fields), status


if __name__ == "__main__":
  sys.exit(main())
