# SPDX-License-Identifier: Apache-2.0
"""Files of generated corpora: small H.264 videos, manifests, and a tokenizer of their words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
import json
import multiprocessing
import pathlib
from typing import Any, TypeVar

import numpy as np

from data_pipelines.media.encoder import write_h264
from data_pipelines.sample import IMAGE
from filax import files, host_limits

Record = dict[str, Any]
Result = TypeVar("Result")

_VOCABULARY = 512
# No macroblock tree: for pictures this small x264 reads uninitialised memory for it. Without it,
# the same frames give the same bytes on one machine.
_X264 = {
  "crf": "23",
  "preset": "veryfast",
  "g": "20",
  "x264-params": "mbtree=0",
}


def write_small_video(
  path: pathlib.Path,
  frames: Iterable[np.ndarray],
  fps: float,
) -> None:
  """Writes frames uint8 [h w 3] as an H.264 file, atomically."""
  with files.write_atomically(path) as file:
    write_h264(file, frames, fps, _X264, threads=1)


def in_processes(
  function: Callable[..., Result],
  arguments: Sequence[tuple],
  processes: int | None = None,
) -> list[Result]:
  """function(*arguments[n]) for every n, in several processes.

  processes: default as many as there are cores.
  """
  processes = processes or host_limits.usable_cpus()
  columns = list(zip(*arguments, strict=True))
  if processes == 1 or not columns:
    return list(map(function, *columns)) if columns else []
  # Not forked: the caller may run threads, which do not survive a fork.
  context = multiprocessing.get_context("spawn")
  with ProcessPoolExecutor(processes, mp_context=context) as pool:
    return list(pool.map(function, *columns, chunksize=8))


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON atomically."""
  if isinstance(value, list):  # One record a line, so that messages can name its line.
    records = ",\n".join(json.dumps(record) for record in value)
    text = f"[\n{records}\n]\n"
  else:
    text = json.dumps(value, indent=2) + "\n"
  with files.write_atomically(path) as file:
    file.write(text.encode())


def train_tokenizer(folder: pathlib.Path, records: Iterable[Record]) -> None:
  """Trains tokenizer.model on the texts of the records."""
  from data_pipelines.text import tokenizers

  path = folder / "tokenizer.model"
  tokenizers.train_sentencepiece(_spoken_texts(records), path, vocab_size=_VOCABULARY)


def _spoken_texts(records: Iterable[Record]) -> Iterator[str]:
  """The turns of records, each after its role name.

  With them, role names become single pieces of the tokenizer, too.
  """
  roles = {"human": "user", "gpt": "assistant"}
  for record in records:
    for turn in record["conversations"]:
      text = turn["value"].removeprefix(IMAGE).lstrip()
      yield f"{roles[turn['from']]}\n{text}"
