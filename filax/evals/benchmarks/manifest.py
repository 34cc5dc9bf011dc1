# SPDX-License-Identifier: Apache-2.0
"""Questions of your own, in the format of the training data (data_pipelines/README.md).

Every question of a conversation is asked on its own. `kind` tells kinds apart in the report. With
`options` (a list of texts) the answer is the letter or the text of one of them, or both ("B. a
kite"); else it is compared after case, punctuation, articles and spaces are evened out.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import os

from data_pipelines.manifest import llava, reader
from data_pipelines.manifest.reader import Bad, RecordError, Report
from data_pipelines.sample import Sample, Turn
from filax.evals import kit
from filax.evals.kit import Benchmark, Example
from filax.evals.metrics.options import LETTERS, unlettered


def read(manifest: str, root: str, report: Report) -> Iterator[Example]:
  """The questions of a manifest; bad records are added to `report`. Raises ManifestError."""
  folder = root or os.path.dirname(manifest)
  for line, record in reader.records(manifest):
    try:
      found = examples(record, f"{manifest}:{line}", folder, report)
    except RecordError as error:
      report.bad.append(Bad(manifest, line, str(error)))
    else:
      report.samples += 1
      yield from found


def examples(record, origin: str, root: str, report: Report) -> list[Example]:
  """The questions of one record. Raises RecordError with the reason if it breaks the format."""
  sample = llava.sample(record, origin, root, report)
  options = record.get("options") or ()
  if not isinstance(options, list | tuple) or not all(isinstance(o, str) for o in options):
    raise RecordError("has options that are not a list of texts")
  if len(options) > len(LETTERS):
    raise RecordError(f"has {len(options)} options, more than {len(LETTERS)}")
  try:
    options = unlettered(options)
    found = list(questions(sample, options, record))
    for example in found if options else ():
      kit.gold(example)
  except ValueError as error:
    raise RecordError(str(error)) from None
  return found


def questions(sample: Sample, options: tuple[str, ...], record: Mapping) -> Iterator[Example]:
  """Every question of a conversation, asked alone; it shows all media that were shown before it."""
  before = tuple(turn for turn in sample.turns if turn.role == "system")
  shown, number = 0, 0
  for asked, said in zip(sample.turns, sample.turns[1:], strict=False):
    if (asked.role, said.role) != ("user", "assistant"):
      continue
    earlier = [part for n in range(shown) for part in (n, "\n")]
    shown += sum(isinstance(part, int) for part in asked.parts)
    turn = dataclasses.replace(asked, parts=(*earlier, *asked.parts))
    name = f"{sample.id}/{number}" if number else sample.id
    yield Example(name, turn, said.text, sample.media[:shown], options, record, before)
    number += 1


def prompt(example: Example) -> Turn:
  """The turn as it is written; with its options if there are any."""
  return kit.multiple_choice(example) if example.options else example.turn


def parse(text: str, example: Example) -> str | None:
  """A letter if there are options, else words."""
  return (kit.letter if example.options else kit.words)(text, example)


BENCHMARK = Benchmark(read=read, prompt=prompt, parse=parse, score=kit.exact, by=("kind",))
