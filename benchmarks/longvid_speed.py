# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of `filax data longvid` on invented tracks.

  python benchmarks/longvid_speed.py [--tracks 20000] [--workers 2] [--questions 1600000]

Runs a fraction and extrapolates linearly: what does not grow with the questions (imports, fitting
the guard, figures) is measured by a small run and counted once.
"""

import argparse
import json
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

from data_pipelines.sample import Scene
from data_pipelines.synthesis.shards import json_line
from data_pipelines.synthesis.track import Event, Track, track_record

VERBS = "chop peel boil fry season plate garnish slice drain pour whisk bake".split()
THINGS = "onion tomato pasta chicken garlic salad soup bread egg rice potato carrot".split()
PLACES = "kitchen garden hall cellar street office beach market".split()


def invented_track(number: int) -> Track:
  """A cooking video of 8 to 14 steps, mostly in one order."""
  rng = random.Random(number)
  events = []
  second = 0.0
  for step in range(rng.randint(8, 14)):
    length = rng.uniform(5, 20)
    usual = round(len(VERBS) * step / 14 + rng.gauss(0, 2)) % len(VERBS)
    label = f"{VERBS[usual]} the {rng.choice(THINGS)} and the {rng.choice(THINGS)}"
    start = round(second, 3)
    end = round(second + length, 3)
    events.append(Event(start, end, f"They {label}.", label, f"the {rng.choice(PLACES)}"))
    second += length + rng.uniform(0, 5)
  key = f"video{number:07d}"
  summary = f"How to cook {THINGS[number % 12]} at home"
  return Track(key, (Scene(f"{key}.mp4"),), round(second, 3), tuple(events), (), summary, "toy")


def timed_run(tracks: int, workers: int) -> dict[str, float]:
  """Seconds, questions and peak memory of a separate run."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    with open(folder / "tracks.jsonl", "wb") as file:
      for number in range(tracks):
        file.write(json_line(track_record(invented_track(number))))
    command = [sys.executable, "-m", "filax", "data", "longvid", "--workers", str(workers)]
    command += ["--source", f"track_files={folder / 'tracks.jsonl'}", "--out", str(folder / "out")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([*command, "--json"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = json.loads((folder / "out" / "figures.json").read_text())
    cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    memory = usage.ru_maxrss / 1024
    return dict(seconds=seconds, cpu=cpu, questions=counts["questions"], memory=memory)


def main() -> None:
  """Prints the measured runs and the extrapolation."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tracks", type=int, default=20_000)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--questions", type=int, default=1_600_000)
  args = parser.parse_args()
  small = timed_run(args.tracks // 10, args.workers)
  large = timed_run(args.tracks, args.workers)
  for row in (small, large):
    print(
      f"{row['questions']} questions: {row['seconds']:.1f} s, {row['cpu']:.1f} CPU-seconds, "
      f"{row['memory']:.0f} MB in the largest process"
    )
  more = large["questions"] - small["questions"]
  for key, unit in (("seconds", "s"), ("cpu", "CPU-seconds")):
    each = (large[key] - small[key]) / more
    total = small[key] + each * (args.questions - small["questions"])
    print(f"{each * 1e6:.0f} µs a question; {args.questions} questions: {total:.0f} {unit}")


if __name__ == "__main__":
  main()
