# SPDX-License-Identifier: Apache-2.0
"""Time and memory of making a data set of long videos.

  python -m benchmarks.long_video_data --clips 178510 --count 40000

Captions are invented, in the shape, lengths and number of LLaVA-Video-178K's; no media are needed.
Memory is the peak of the process that plans, and of those that help it.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

# Folder -> share of the clips, seconds, and words of a caption on average.
BUCKETS = {
  "0_30_s_academic_v0_1": (11_985, (2, 30), 190),
  "0_30_s_youtube_v0_1": (79_346, (2, 30), 370),
  "30_60_s_academic_v0_1": (10_514, (30, 60), 260),
  "30_60_s_youtube_v0_1": (19_995, (30, 60), 420),
  "1_2_m_academic_v0_1": (4_627, (60, 120), 510),
  "1_2_m_youtube_v0_1": (24_234, (60, 120), 680),
  "2_3_m_academic_v0_1": (3_124, (120, 180), 840),
  "2_3_m_youtube_v0_1": (24_685, (120, 180), 1070),
}
ALL_CLIPS = 178_510
CLIPS_OF_A_VIDEO = 1.1
WORDS = (
  "the a man woman camera scene video street kitchen table red blue walking holding towards with "
  "behind background shows slowly wearing shirt and then while brightly several people standing"
).split()


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--clips", type=int, default=ALL_CLIPS)
  parser.add_argument("--count", type=int, default=40_000)
  parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
  parser.add_argument("--folder", default="", help="kept between calls; default: a temporary one")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    captions = write_captions(folder / f"captions-{args.clips}", args.clips)
    print(json.dumps(synthesize(captions, folder / "out", args.count, args.processes), indent=2))


def write_captions(folder: pathlib.Path, clips: int) -> pathlib.Path:
  """Writes caption files unless they are there."""
  if folder.exists():
    return folder
  folder.mkdir(parents=True)
  rng = random.Random(0)
  passages = [" ".join(rng.choices(WORDS, k=60)) for _ in range(997)]
  for name, (share, seconds, words) in BUCKETS.items():
    count = max(1, share * clips // ALL_CLIPS)
    path = folder / f"{name[:-5]}_cap_processed.json"
    with open(path, "w") as file:
      file.write("[")
      for number in range(count):
        record = caption_record(rng, passages, name, number, seconds, words)
        file.write(",\n" * (number > 0) + json.dumps(record))
      file.write("]")
  return folder


def caption_record(
  rng: random.Random,
  passages: list[str],
  source: str,
  number: int,
  seconds: tuple[int, int],
  words: int,
) -> dict[str, Any]:
  """An invented record like those of LLaVA-Video-178K with durations."""
  video = f"ytb_{int(number / CLIPS_OF_A_VIDEO):06d}{source[:5]}.mp4"
  wanted = max(10, round(rng.gauss(words, words / 4)))
  text = ["The video begins with"]
  for _ in range(wanted // 60 + 1):
    text.append(rng.choice(passages))
  caption = " ".join(" ".join(text).split()[:wanted])
  turns = [
    {"from": "human", "value": "<image>\nPlease describe the video in detail."},
    {"from": "gpt", "value": f"{caption} {number}."},
  ]
  return {
    "id": f"{source}-{number}",
    "conversations": turns,
    "data_source": source,
    "video": f"videos/{number}/{video}",
    "duration": round(rng.uniform(*seconds), 2),
  }


def synthesize(
  captions: pathlib.Path, out: pathlib.Path, count: int, processes: int
) -> dict[str, Any]:
  """The figures of `filax data synthesize`, in a process of its own."""
  command = [sys.executable, "-m", "filax", "data", "synthesize", str(captions), "--out", str(out)]
  command += ["--count", str(count), "--processes", str(processes), "--force"]
  began = time.monotonic()
  subprocess.run(command, check=True, stdout=sys.stderr)
  wall = time.monotonic() - began
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  written = sum(path.stat().st_size for path in out.glob("*.jsonl"))
  return {
    "videos": count,
    "processes": processes,
    "seconds": round(wall, 1),
    "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
    "written_gb": round(written / 1e9, 2),
    "read_gb": round(sum(path.stat().st_size for path in captions.iterdir()) / 1e9, 2),
    "largest_process_mb": round(used.ru_maxrss / 1024),
  }


if __name__ == "__main__":
  main()
