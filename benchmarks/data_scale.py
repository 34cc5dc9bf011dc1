# SPDX-License-Identifier: Apache-2.0
"""Time and memory of planning millions of samples.

  python -m benchmarks.data_scale --records 3500000 --media 390000 [--tokenizer tokenizer.json]

A manifest of questions of 20 words and answers of 5 to 200 words is written over media whose facts
are known already, as they are after a first pass over real files. Each step runs in a process of
its own: the first plan (cold), the second one (warm), and a loader's worker. Memory is what a
process has written and cannot share (pages of mapped files are shared by all processes of a host),
beside that of a process with the same imports. For comparison: reading the manifest alone, and
encoding its texts with the tokenizer's own batches, one process per core.

CPU seconds are those of all processes. They are printed beside wall seconds because these depend
on what else the machine does.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import pickle
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

from filax import processes

LINKS = 30_000  # File systems limit the names of a file.
WORDS = "a the red blue small old man woman dog car street walks runs holds of in on with".split()
STEPS = ("bare", "manifest", "encode", "cold", "warm", "worker")
ENCODED = 20_000  # Records whose texts are encoded alone, to compare.


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
    figures["manifest_mb"] = (folder / "manifest.jsonl").stat().st_size / 1e6
    print(json.dumps(figures, indent=2))


def in_process(step: str, folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """The figures of a step, from a process of its own."""
  command = [sys.executable, "-m", "benchmarks.data_scale", "--step", step]
  command += ["--folder", str(folder), "--tokenizer", tokenizer]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  print(f"{step}: {done.stdout.strip()}", file=sys.stderr, flush=True)
  return json.loads(done.stdout)


def run_step(step: str, folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Runs a step in this process: its figures."""
  import psutil

  from data_pipelines import loader  # noqa: F401  # The memory of its imports is that of `bare`.

  begin = time.perf_counter()
  facts = RUNS[step](folder, tokenizer) if step in RUNS else {}
  facts.setdefault("seconds", time.perf_counter() - begin)
  process = psutil.Process()
  times = process.cpu_times()
  children = times.children_user + times.children_system
  facts["cpu_seconds"] = times.user + times.system + children
  facts["load"] = os.getloadavg()[0]
  facts["private_mb"] = sum(part.private_dirty for part in process.memory_maps()) / 1e6
  facts["peak_mb"] = processes.peak_memory() / 1e6
  _PLANS.clear()
  return facts


def run_plan(folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Makes the plan, then packs an epoch again."""
  from data_pipelines.loader import Pipeline, make_plan

  begin = time.perf_counter()
  plan = make_plan(config(folder, tokenizer), layout(), seed=0, batch=8)
  _PLANS.append(plan)
  seconds = time.perf_counter() - begin
  begin = time.perf_counter()
  plan.planner._plan_epoch(0)
  pack_seconds = time.perf_counter() - begin
  pipeline = Pipeline(plan)
  parts = (dataclasses.replace(pipeline.materialise(), blank=True), plan.planner)
  (folder / "worker.pickle").write_bytes(pickle.dumps(parts))
  return dict(
    rows=plan.report["rows"],
    fingerprint=plan.fingerprint,
    seconds=seconds,
    pack_seconds=pack_seconds,
    pickle_bytes=(folder / "worker.pickle").stat().st_size,
  )


def run_worker(folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Materialises some rows, as a loader's worker does."""
  del tokenizer
  materialise, planner = pickle.loads((folder / "worker.pickle").read_bytes())
  _PLANS.append((materialise, planner))
  for number in range(50):
    materialise(planner.row(number * 97))
  return {}


def read_alone(folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Reads the manifest and forgets its records."""
  from data_pipelines.manifest.reader import located_records

  del tokenizer
  return dict(records=sum(1 for _ in located_records(folder / "manifest.jsonl")))


def encode_alone(folder: pathlib.Path, tokenizer: str) -> dict[str, Any]:
  """Encodes the first records' texts in one batch, one process per core."""
  from benchmarks import data_scale  # This module may be __main__, which other processes lack.
  from data_pipelines.chunk_pool import ChunkPool, default_processes

  texts: list[str] = []
  with open(folder / "manifest.jsonl") as file:
    for line in itertools.islice(file, ENCODED):
      texts += [turn["value"] for turn in json.loads(line)["conversations"]]
  processes = default_processes()
  parts = [texts[number::processes] for number in range(processes)]
  with ChunkPool(functools.partial(data_scale.encode_texts, tokenizer), processes) as pool:
    begin = time.perf_counter()
    encoded = list(pool.map(parts))
    seconds = time.perf_counter() - begin
  tokens, cpu_seconds = map(sum, zip(*encoded, strict=True))
  return dict(seconds=seconds, tokens=tokens, encode_cpu_seconds=cpu_seconds)


def encode_texts(path: str, texts: list[str]) -> tuple[int, float]:
  """(tokens, CPU seconds) of the library's own batch call."""
  from data_pipelines.text.tokenizers import load_tokenizer

  tokenizer = load_tokenizer(path)
  begin = time.process_time()
  if path.endswith(".json"):
    ids = tokenizer._for_text.encode_batch(texts, add_special_tokens=False)
  else:
    ids = tokenizer._processor.encode(texts, num_threads=1)
  return sum(map(len, ids)), time.process_time() - begin


RUNS = dict(
  manifest=read_alone, encode=encode_alone, cold=run_plan, warm=run_plan, worker=run_worker
)
_PLANS: list[Any] = []  # Held until the memory is measured.


def main_figures(results: Mapping[str, Mapping[str, Any]], records: int) -> dict[str, Any]:
  """The figures that matter."""
  bare = results["bare"]["private_mb"]
  encode = results["encode"]
  share = records / min(records, ENCODED)
  return dict(
    records=records,
    cores=os.cpu_count(),
    load={step: result["load"] for step, result in results.items()},
    cpu_seconds={step: result["cpu_seconds"] for step, result in results.items()},
    manifest_read_seconds=results["manifest"]["seconds"],
    manifest_read_peak_mb=results["manifest"]["peak_mb"],
    encode_batch_alone_seconds=encode["seconds"] * share,
    encode_batch_alone_cpu_seconds=encode["encode_cpu_seconds"] * share,
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
  from filax.configs import common

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
