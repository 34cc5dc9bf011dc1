# SPDX-License-Identifier: Apache-2.0
"""Time and memory of planning millions of samples.

  python -m benchmarks.data_scale --records 3500000 --media 390000 [--tokenizer tokenizer.json]

A manifest of questions of 20 words and answers of 5 to 200 words is written over media whose facts
are known already, as they are after a first pass over real files. Each step runs in a process of
its own: the first plan (cold), the second one (warm), and a loader's worker. Memory is what a
process holds alone (USS), beside that of a process with the same imports.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

LINKS = 30_000  # File systems limit the names of a file.
WORDS = "a the red blue small old man woman dog car street walks runs holds of in on with".split()
STEPS = ("bare", "cold", "warm", "worker")


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--records", type=int, default=3_500_000)
  parser.add_argument("--media", type=int, default=390_000)
  parser.add_argument("--tokenizer", default="", help="default: a small sentencepiece model")
  parser.add_argument("--folder", default="", help="kept between calls; default: a temporary one")
  parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.step:
    print(json.dumps(run_step(args.step, pathlib.Path(args.folder), args.tokenizer)))
    return
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    write_data(folder, args.records, args.media)
    tokenizer = args.tokenizer or write_tokenizer(folder)
    results = {step: in_process(step, folder, tokenizer) for step in STEPS}
    figures = main_figures(results, args.records)
    print(json.dumps(figures, indent=2))


def in_process(step: str, folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """The figures of a step, from a process of its own."""
  command = [sys.executable, "-m", "benchmarks.data_scale", "--step", step]
  command += ["--folder", str(folder), "--tokenizer", tokenizer]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  print(f"{step}: {done.stdout.strip()}", file=sys.stderr, flush=True)
  return json.loads(done.stdout)


def run_step(step: str, folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Runs a step in this process."""
  import psutil

  from data_pipelines.loader import Pipeline, make_plan

  begin = time.perf_counter()
  facts: dict[str, Any] = {}
  plan = None
  if step in ("cold", "warm"):
    plan = make_plan(config(folder, tokenizer), layout(), seed=0, batch=8)
    facts["rows"] = plan.report["rows"]
    facts["fingerprint"] = plan.fingerprint
    facts["seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    plan.planner._plan_epoch(0)
    facts["pack_seconds"] = time.perf_counter() - begin
    pipeline = Pipeline(plan)
    parts = (dataclasses.replace(pipeline.materialise(), blank=True), plan.planner)
    (folder / "worker.pickle").write_bytes(pickle.dumps(parts))
    facts["pickle_bytes"] = (folder / "worker.pickle").stat().st_size
  if step == "worker":
    materialise, planner = pickle.loads((folder / "worker.pickle").read_bytes())
    for number in range(50):
      materialise(planner.row(number * 97))
    facts["seconds"] = time.perf_counter() - begin
  facts["private_mb"] = psutil.Process().memory_full_info().uss / 1e6
  facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
  del plan
  return facts


def main_figures(results: Mapping[str, Mapping[str, Any]], records: int) -> dict[str, Any]:
  """The figures that matter."""
  bare = results["bare"]["private_mb"]
  return dict(
    records=records,
    cold_seconds=results["cold"]["seconds"],
    warm_seconds=results["warm"]["seconds"],
    pack_seconds=results["warm"]["pack_seconds"],
    private_bytes_a_sample_cold=(results["cold"]["private_mb"] - bare) * 1e6 / records,
    private_bytes_a_sample_warm=(results["warm"]["private_mb"] - bare) * 1e6 / records,
    peak_mb_cold=results["cold"]["peak_mb"],
    worker_private_mb=results["worker"]["private_mb"] - bare,
    same_rows=results["cold"]["fingerprint"] == results["warm"]["fingerprint"],
  )


def config(folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """config.data over the manifest."""
  from configs import common

  data = common.base().data.to_dict()
  return data | dict(
    train=((str(folder / "manifest.jsonl"), "all"),),
    tokenizer=tokenizer,
    cache=str(folder / "cache"),
    sampling=dict(name="uniform", frames=32, phase="ends"),
    packing=True,
    rows=((96, 4, 8192, 32),),
  )


def layout():
  """32 frames of 16 tokens each."""
  from filax.spec import VisualLayout

  return VisualLayout(size=16, frames_per_group=1, group_grid=(4, 4), image_grid=(4, 4))


def write_data(folder: pathlib.Path, records: int, media: int) -> None:
  """The manifest, its media, and their facts."""
  if (folder / "complete").exists():
    return
  folder.mkdir(parents=True, exist_ok=True)
  write_media(folder, media)
  rng = random.Random(0)
  with open(folder / "manifest.jsonl", "w") as file:
    for number in range(records):
      question = " ".join(rng.choices(WORDS, k=20))
      answer = " ".join(rng.choices(WORDS, k=rng.randint(5, 200)))
      turns = [
        {"from": "human", "value": f"<image>\n{question}?"},
        {"from": "gpt", "value": f"{answer}."},
      ]
      video = f"videos/{number * media // records:06d}.mp4"
      file.write(json.dumps(dict(id=str(number), video=video, conversations=turns)) + "\n")
  (folder / "complete").touch()


def write_media(folder: pathlib.Path, media: int) -> None:
  """Writes many names of a few files, and their facts."""
  from data_pipelines.media.facts_store import FactsStore
  from data_pipelines.media.open import identity
  from data_pipelines.media.probe import Probe

  videos = folder / "videos"
  videos.mkdir(exist_ok=True)
  (folder / "cache").mkdir(exist_ok=True)
  store = FactsStore(folder / "cache" / "index.sqlite")
  for number in range(media):
    path = videos / f"{number:06d}.mp4"
    if number % LINKS == 0:
      source = path
      path.write_bytes(bytes([0, 0, 0, 24]) + b"ftypisom" + bytes(64))
    else:
      os.link(source, path)
    seconds = 20.0 + number % 40
    facts = Probe(int(seconds * 30), seconds, 30.0, width=640, height=360, last=seconds - 1 / 30)
    store.put(identity(str(path)), facts)
    store.put(f"path:{path}", facts)
    if number % 10_000 == 0:
      store.commit()
  store.commit()
  store.close()


def write_tokenizer(folder: pathlib.Path) -> str:
  """A small sentencepiece model of the manifest's words."""
  from data_pipelines.text.tokenizer_sentencepiece import train_sentencepiece

  path = folder / "tokenizer.model"
  if not path.exists():
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=50)) for _ in range(500)]
    train_sentencepiece(texts, path, 400)
  return str(path)


if __name__ == "__main__":
  main()
