# SPDX-License-Identifier: Apache-2.0
"""Annotation files of benchmarks with invented records of the published shapes.

Of NExT-QA (MIT licence, © 2021 Junbin) two records are real.
"""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import Any

import pyarrow
import pyarrow.parquet

Folder = str | os.PathLike

EGOSCHEMA_TASKS = ("clean a bowl", "mend a net", "sort stamps", "carve a spoon", "water herbs")
NEXTQA_HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
NEXTQA_ROWS = (
  "4010069381,369,640,480,how do the two man play the instrument,0,6,CH,"
  "roll the handle,tap their feet,strum the string,hit with sticks,pat with hand",
  "2574374895,719,320,240,what did the baby do after throwing the green cup away while on the "
  "floor near the end,2,8,TN,clap proudly,the lady sitting down,lay on floor,just picked it up,"
  "crawl",
)
NEXTQA_INVENTED_ROW = (
  '1000000001,90,320,240,"what happened before the dog barked, if anything",4,0,TP,'
  'a bell rang,"a ""thud""",nothing,a car passed,the door opened'
)
PERCEPTION_OPTIONS = ("The cup.", "The spoon.", "Neither.")
LVBENCH_QUESTION = "What colour is the boat in the third scene?"
LVBENCH_OPTIONS = ("(A) Red", "(B) Green", "(C) White", "(D) Black")
TEMPCOMPASS_CHOICE = "Which way does the ball roll?\nA. to the left\nB. to the right\nC. upwards"
TEMPCOMPASS_MATCHING = (
  "Which caption fits the video?\nOption 1: The ball rolls left.\nOption 2: The ball rolls right."
)


def write_json(path: str | os.PathLike, value: Any) -> str:
  """Writes a value and returns the path; its folder is made."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))
  return str(path)


def write_text(path: str | os.PathLike, text: str) -> str:
  """Writes a text, with its line ends, and returns the path."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(text.encode())
  return str(path)


def write_parquet(path: str | os.PathLike, records: Sequence[dict[str, Any]]) -> str:
  """Writes records as parquet and returns the path."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
  return str(path)


def egoschema_record(number: int) -> dict[str, Any]:
  """A record of questions.json, whose id is "uid-<number>"."""
  record = dict(
    q_uid=f"uid-{number}",
    google_drive_id=f"drive{number}",
    question=f"What is the aim of person {number}?",
  )
  for option, task in enumerate(EGOSCHEMA_TASKS):
    record[f"option {option}"] = f"To {task}."
  return record


def write_egoschema(folder: Folder, count: int = 3) -> str:
  """The authors' files: `count` questions, of which the first two have answers."""
  folder = pathlib.Path(folder)
  write_json(folder / "questions.json", [egoschema_record(number) for number in range(count)])
  write_json(folder / "subset_answers.json", {"uid-0": 4, "uid-1": 1})
  return str(folder)


def write_egoschema_of_lmms(folder: Folder) -> str:
  """lmms-eval's copy: the subset of two questions, and all three."""
  folder = pathlib.Path(folder)
  rows = []
  for number in range(3):
    record = egoschema_record(number)
    options = []
    for letter, option in zip("ABCDE", range(5), strict=True):
      options.append(f"{letter}. {record[f'option {option}']}")
    row = dict(video_idx=record["q_uid"], question_idx=str(number), question=record["question"])
    rows.append(row | dict(option=options))
  subset = [rows[0] | dict(answer="4"), rows[1] | dict(answer="1")]
  write_parquet(folder / "Subset/test-00000-of-00001.parquet", subset)
  kept = [row | dict(answer=None) for row in rows]
  write_parquet(folder / "MC/test-00000-of-00001.parquet", kept)
  return str(folder)


def write_nextqa(folder: Folder, name: str = "test.csv", newline: str = "\n") -> str:
  """The authors' files: three questions, and the map of videos."""
  folder = pathlib.Path(folder)
  lines = [NEXTQA_HEADER, *NEXTQA_ROWS, NEXTQA_INVENTED_ROW]
  write_text(folder / name, newline.join(lines) + newline)
  videos = {"4010069381": "1106/4010069381", "2574374895": "0036/2574374895"}
  write_json((folder / name).parent / "map_vid_vidorID.json", videos)
  return str(folder)


def perception_row(video: int, number: int, **keys: Any) -> dict[str, Any]:
  """A record of lmms-eval's copy without its answer."""
  return (
    dict(
      video_name=f"video_{video}",
      question=f"What does person {number} lift?",
      question_id=str(number),
      options=list(PERCEPTION_OPTIONS),
    )
    | keys
  )


def write_perceptiontest_of_lmms(folder: Folder) -> str:
  """lmms-eval's copy: three validation questions, two test questions."""
  folder = pathlib.Path(folder)
  columns = dict(area="physics", reasoning="descriptive", tag=["motion", "place"])
  rows = [
    perception_row(7, 0, answer_id="2", **columns),
    perception_row(7, 4, answer_id="0", **columns | dict(area="memory")),
    perception_row(8, 0, answer_id="1", **columns | dict(reasoning="predictive")),
  ]
  write_parquet(folder / "mc_question_val/validation-00000-of-00001.parquet", rows)
  kept = [perception_row(9, 1), perception_row(9, 3)]
  write_parquet(folder / "mc_question/test-00000-of-00001.parquet", kept)
  return str(folder)


def write_perceptiontest(folder: Folder) -> str:
  """The authors' files of the same questions as `write_perceptiontest_of_lmms`."""
  folder = pathlib.Path(folder)

  def question(number: int, **keys: Any) -> dict[str, Any]:
    text = f"What does person {number} lift?"
    return dict(id=number, question=text, options=list(PERCEPTION_OPTIONS)) | keys

  columns = dict(area="physics", reasoning="descriptive", tag=["motion", "place"])
  first = question(0, answer_id=2, **columns)
  second = question(4, answer_id=0, **columns | dict(area="memory"))
  third = question(0, answer_id=1, **columns | dict(reasoning="predictive"))
  metadata = dict(split="valid", frame_rate=29.97, num_frames=700, is_cup_game=False)
  videos = dict(
    video_7=dict(metadata=metadata, mc_question=[first, second]),
    video_8=dict(metadata=metadata, mc_question=[third]),
  )
  write_json(folder / "mc_question_valid.json", videos)
  kept = dict(metadata=metadata | dict(split="test"), mc_question=[question(1), question(3)])
  write_json(folder / "mc_question_test.json", dict(video_9=kept))
  return str(folder)


def write_lvbench(folder: Folder) -> str:
  """The authors' file: a video a line, options within the questions."""
  lines = "\n".join(LVBENCH_OPTIONS)
  first = dict(
    uid="0",
    question=f"{LVBENCH_QUESTION}\n{lines}",
    answer="D",
    question_type=["entity recognition", "temporal grounding"],
    time_reference="00:15-00:19",
  )
  second = dict(
    uid="1",
    question=f"Who wins?\n{lines}",
    answer="A",
    question_type=["summarization"],
    time_reference="01:02:15-01:10:00",
  )
  video = dict(key="Ab_-3456789", type="sport", video_info=dict(fps=30), qa=[first, second])
  text = json.dumps(video) + "\n"
  return str(pathlib.Path(write_text(pathlib.Path(folder) / "video_info.meta.jsonl", text)).parent)


def lvbench_row(video: str, **keys: Any) -> dict[str, Any]:
  """A record of VideoChat-Flash's copy, whose answer is D."""
  return (
    dict(
      video=video,
      type="sport",
      question=LVBENCH_QUESTION,
      candidates=list(LVBENCH_OPTIONS),
      answer=LVBENCH_OPTIONS[3],
      question_type=["entity recognition", "temporal grounding"],
      time_reference="00:15-00:19",
    )
    | keys
  )


def tempcompass_questions() -> dict[str, Any]:
  """Task -> the content of its file."""
  choice = dict(question=TEMPCOMPASS_CHOICE, answer="B. to the right")
  closed = dict(question="Does the ball roll left?", answer="no")
  matching = dict(question=TEMPCOMPASS_MATCHING, answer="Option 2: The ball rolls right.")
  caption = dict(question="Describe.\nA. left\nB. right", answer="B. right")
  return {
    "multi-choice": {"1034419625": dict(direction=[choice, choice])},
    "yes_no": {"1034419625_reverse": dict(direction=[closed], speed=[closed])},
    "caption_matching": {"1034419625": dict(order=[matching])},
    "captioning": {"1034419625": dict(action=[caption])},
  }


def write_tempcompass(folder: Folder) -> str:
  """The authors' four files."""
  folder = pathlib.Path(folder)
  for task, content in tempcompass_questions().items():
    write_json(folder / f"questions/{task}.json", content)
  return str(folder)
