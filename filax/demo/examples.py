# SPDX-License-Identifier: Apache-2.0
"""Sample answers for the report: some held-out questions asked again, with the frames shown."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib

import numpy as np

WAYS = ("scenes", "uniform")


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
  """What a way of choosing frames led to."""

  answer: str
  right: bool
  frames: np.ndarray  # uint8 [G K h w 3]: what the llm saw.
  times: np.ndarray  # float32 [G K]
  middle: int  # The place in a group of the frame that stands for it.


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
  """A question about a video, answered from scenes and from uniform frames."""

  video: pathlib.Path
  kind: str
  question: str
  expected: str
  told: Mapping[str, Told]


def choose(
  manifest: pathlib.Path, evals: Mapping[str, Mapping], counts: Sequence[int] = (4, 2, 1)
) -> list[dict]:
  """Records of the manifest, each about another video: some that only scenes answered right, some
  that both did, and one that scenes answered wrong, as far as there are any."""
  records = {record["id"]: record for record in json.loads(manifest.read_text())}
  right = {way: {a["id"]: a["score"] > 0 for a in evals[way]["answers"]} for way in WAYS}
  wanted = ((True, False), (True, True), (False, False))
  chosen, videos = [], set()
  for outcome, count in zip(wanted, counts, strict=True):
    for id, record in records.items():
      if (right["scenes"][id], right["uniform"][id]) == outcome and record["video"] not in videos:
        if not count:
          break
        chosen.append(record)
        videos.add(record["video"])
        count -= 1
  return chosen or list(records.values())[:1]


def ask(model, params, folder: pathlib.Path, records: Sequence[Mapping]) -> list[Shown]:
  """Asks as `filax chat` does; `folder` holds the media."""
  from filax.infer.processor import with_selector

  models = dict(scenes=model, uniform=with_selector(model, "uniform"))
  shown = []
  for record in records:
    human, gpt = (turn["value"] for turn in record["conversations"])
    question = human.partition("\n")[2]
    video = folder / record["video"]
    told = {way: _told(models[way], params, video, question, gpt) for way in WAYS}
    shown.append(Shown(video, record["kind"], question, gpt, told))
  return shown


def _told(model, params, video: pathlib.Path, question: str, expected: str) -> Told:
  from filax.infer.chat import Conversation
  from filax.infer.encode import representative

  # Read whole: a talk that reads a path part by part keeps no frames to show.
  talk = Conversation(model, params, model.processor.read(str(video), model))
  answer = talk.ask(question).text
  groups = talk.seen.groups
  return Told(
    answer,
    answer == expected,
    talk.video.frames[groups],
    talk.video.times[groups],
    representative(model),
  )
