# SPDX-License-Identifier: Apache-2.0
"""Sample answers for the report, with the frames shown to the model."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import pathlib

import numpy as np

from filax.infer.encode import representative
from filax.infer.session import Session

SELECTIONS = ("scenes", "uniform")  # Evaluations that show frames of the videos.


@dataclasses.dataclass(frozen=True, eq=False)
class SampleAnswer:
  """An answer, and the frames that it is based on."""

  answer: str
  right: bool
  frames: np.ndarray  # uint8 [G K h w 3]: the frames that the llm saw.
  times: np.ndarray  # float32 [G K]
  middle: int  # Position of a group's representative frame.


@dataclasses.dataclass(frozen=True, eq=False)
class SampleQuestion:
  """A question about a video, answered from scenes and from uniform frames."""

  video: pathlib.Path
  kind: str
  question: str
  expected: str
  answers: Mapping[str, SampleAnswer]  # Selection -> answer.


def choose_records(
  manifest: pathlib.Path, evals: Mapping[str, Mapping], counts: Sequence[int] = (4, 2, 1)
) -> list[dict]:
  """Chooses records of the manifest, each about a different video.

  `counts`: records answered right by scenes alone, by scenes and uniform frames, and by neither;
  fewer if there are not enough.
  """
  records = json.loads(manifest.read_text(encoding="utf-8"))
  right = {name: _right_answers(evals[name]) for name in SELECTIONS}
  outcomes = ((True, False), (True, True), (False, False))
  chosen = []
  videos = set()
  for outcome, count in zip(outcomes, counts, strict=True):
    added = 0
    for record in _records_with(outcome, records, right):
      if added < count and record["video"] not in videos:
        chosen.append(record)
        videos.add(record["video"])
        added += 1
  return chosen or records[:1]


def _right_answers(evaluation: Mapping) -> dict[str, bool]:
  """Id of a question -> whether it was answered right."""
  return {answer["id"]: answer["score"] > 0 for answer in evaluation["answers"]}


def _records_with(
  outcome: tuple[bool, bool], records: Sequence[dict], right: Mapping[str, Mapping[str, bool]]
) -> Iterator[dict]:
  """Records with this outcome: (scenes right, uniform frames right)."""
  for record in records:
    by_scenes = right["scenes"][record["id"]]
    by_uniform = right["uniform"][record["id"]]
    if (by_scenes, by_uniform) == outcome:
      yield record


def ask_samples(
  session: Session, folder: pathlib.Path, records: Sequence[Mapping]
) -> list[SampleQuestion]:
  """Asks the questions as `filax chat` does; `folder` holds the media."""
  sessions = dict(scenes=session, uniform=session.with_selector("uniform"))
  samples = []
  for record in records:
    human, gpt = record["conversations"]
    _, _, question = human["value"].partition("\n")
    expected = gpt["value"]
    video = folder / record["video"]
    answers = {}
    for name in SELECTIONS:
      answers[name] = _sample_answer(sessions[name], video, question, expected)
    samples.append(SampleQuestion(video, record["kind"], question, expected, answers))
  return samples


def _sample_answer(
  session: Session, video: pathlib.Path, question: str, expected: str
) -> SampleAnswer:
  # Decoded first: a talk that reads a path part by part keeps no frames to show.
  talk = session.conversation(session.read_video(video))
  answer = talk.ask(question).text
  decoded, media = talk.video_and_media()
  return SampleAnswer(
    answer,
    answer == expected,
    decoded.frames[media.groups],
    decoded.times[media.groups],
    representative(session.model),
  )
