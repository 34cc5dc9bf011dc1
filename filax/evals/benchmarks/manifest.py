# SPDX-License-Identifier: Apache-2.0
"""Custom questions in the format of the training data (data_pipelines/README.md).

Every question of a conversation is asked separately. The report gives accuracy by `kind`. With
`options` (a list of texts) the answer is the letter of an option, its text, or both ("B. a kite").
Several right answers may be listed (filax/evals/accepted_answers.py); the best one counts. The
protocols differ in how answers without options are scored:

  filax     equal words, after case, punctuation, articles and spaces are normalised
  f1        the share of common words
  captions  ROUGE-L, and BLEU-4 and CIDEr-D of all captions
  judge     a language model compares answers (filax/evals/metrics/judge.py)
"""

from collections.abc import Iterator, Mapping
import dataclasses
import os
from typing import Any

from data_pipelines.manifest import llava, reader
from data_pipelines.manifest.options import lists_options
from data_pipelines.manifest.reader import BadRecord, ManifestReport, RecordError
from data_pipelines.sample import Sample
from filax.evals import kit
from filax.evals.accepted_answers import split_accepted
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, Score, ShownMedia, Source
from filax.evals.metrics.captions import CaptionOverlap, caption_scores
from filax.evals.metrics.exact import ExactMatch, right_letter
from filax.evals.metrics.judge import JudgedAnswer
from filax.evals.metrics.open_answers import OpenAnswer
from filax.evals.metrics.options import LETTERS, unlettered


def read_examples(source: Source) -> Iterator[Example]:
  """The questions of a manifest; bad records are added to `source.report`.

  Raises ManifestError for an unreadable manifest.
  """
  manifest = source.data
  report = source.report
  source.annotations.append(manifest)
  folder = source.root or os.path.dirname(manifest)
  name = os.path.basename(manifest)  # In ids of records without one, so that folders do not matter.
  for located in reader.located_records(manifest):
    try:
      questions = record_examples(located.record, f"{name}:{located.place}", folder, report)
    except RecordError as error:
      report.bad.append(BadRecord(manifest, located.line, str(error), located.nth))
    else:
      report.samples += 1
      yield from questions


def record_examples(record: Any, origin: str, root: str, report: ManifestReport) -> list[Example]:
  """The questions of one record.

  Raises RecordError with the reason if it breaks the format.
  """
  record, references = split_accepted(record)
  sample = llava.parse_record(record, origin, root, report)
  texts = _option_texts(record)
  try:
    options = unlettered(texts)
    questions = list(sample_questions(sample, options, record))
    if options:
      for example in questions:
        right_letter(example)
  except ValueError as error:
    raise RecordError(str(error)) from None
  if not references:
    return questions
  if options or len(questions) != 1:
    raise RecordError("has several right answers, and options or several questions")
  return [dataclasses.replace(questions[0], references=references)]


def _option_texts(record: Mapping[str, Any]) -> list[str] | tuple[str, ...]:
  """The options of a record as written.

  Raises RecordError for options of another form.
  """
  texts = record.get("options") or ()
  is_list = isinstance(texts, list | tuple)
  if not is_list or not all(isinstance(text, str) for text in texts):
    raise RecordError("has options that are not a list of texts")
  if len(texts) > len(LETTERS):
    raise RecordError(f"has {len(texts)} options, more than {len(LETTERS)}")
  return texts


def sample_questions(
  sample: Sample, options: tuple[str, ...], record: Mapping
) -> Iterator[Example]:
  """Yields every question of a conversation as a separate example.

  Each shows its own media and those of the earlier turns.
  """
  system_turns = tuple(turn for turn in sample.turns if turn.role == "system")
  media_before = 0
  number = 0
  for question, answer in zip(sample.turns, sample.turns[1:], strict=False):
    if (question.role, answer.role) != ("user", "assistant"):
      continue
    parts: list[str | int] = []
    for medium in range(media_before):
      parts += [medium, "\n"]
    media_before += sum(isinstance(part, int) for part in question.parts)
    yield Example(
      id=f"{sample.id}/{number}" if number else sample.id,
      turn=dataclasses.replace(question, parts=(*parts, *question.parts)),
      answer=answer.text,
      media=sample.media[:media_before],
      options=options,
      fields=record,
      before=system_turns,
    )
    number += 1


def question_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The turn as written, with its options unless it lists them."""
  del shown
  turn = example.turn
  if example.options and not lists_options(turn.text, example.options):
    turn = kit.multiple_choice(example)
  return Prompt((*example.before, turn))


def check_free(example: Example) -> Example:
  """The example.

  Raises ValueError if it has options, which words are not compared with.
  """
  if example.options:
    raise ValueError(
      f"The question {example.id} has options. Score it by --protocol filax or judge: the others "
      "compare words."
    )
  return example


class JudgedUnlessOptions(JudgedAnswer):
  """The judge's verdict; letters of options need none."""

  def score(self, text: str, example: Example) -> Score:
    """1 for the right option, or if the judge says yes."""
    if example.options:
      return ExactMatch().score(text, example)
    return super().score(text, example)


FILAX = NamedProtocol(prompt=question_prompt, metric=ExactMatch())
F1 = NamedProtocol(prompt=question_prompt, metric=OpenAnswer(), arrange=check_free)
CAPTIONS = NamedProtocol(
  prompt=question_prompt, metric=CaptionOverlap(), arrange=check_free, set_scores=caption_scores
)
JUDGE = NamedProtocol(prompt=question_prompt, metric=JudgedUnlessOptions())
PROTOCOLS = dict(filax=FILAX, f1=F1, captions=CAPTIONS, judge=JUDGE)
BENCHMARKS = dict(
  manifest=Benchmark(read_examples=read_examples, protocols=PROTOCOLS, by=("kind",))
)
