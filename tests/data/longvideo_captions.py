# SPDX-License-Identifier: Apache-2.0
"""Invented caption files in the form of LLaVA-Video-178K."""

import json

from data_pipelines.synthesis.caption_reader import ReadingRules
from data_pipelines.synthesis.longvideo import LongVideoOptions, synthesize
from data_pipelines.synthesis.longvideo_plan import VideoRules

SOURCE = "0_30_s_academic_v0_1"


def caption_record(number, **changes):
  """A record of a clip of 10 to 59 seconds."""
  turns = [
    {"from": "human", "value": "<image>\nPlease describe the video in detail."},
    {"from": "gpt", "value": f'The video begins with person "{number}".\nThey run é 跑, far.'},
  ]
  record = dict(
    id=f"clip-{number}",
    conversations=turns,
    data_source=SOURCE,
    video=f"academic_source/Charades/{number:05d}.mp4",
    duration=10 + number * 7 % 50 + 0.4567,
  )
  return record | changes


def captioned(number, caption, **changes):
  """A record with a caption."""
  turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": caption}]
  return caption_record(number, conversations=turns, **changes)


def write_captions(folder, records, name="0_30_s_academic_v0_1_cap_processed.json"):
  """Writes a caption file and returns its path."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  if name.endswith(".jsonl"):
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
  else:
    path.write_text(json.dumps(records))
  return str(path)


def make(paths, out, count=20, reading=None, processes=1, force=False, **options):
  """Long videos of one to four minutes; options are those of VideoRules and LongVideoOptions."""
  known = VideoRules.__dataclass_fields__
  rules = dict(low=60.0, high=240.0, mean=100.0, passes=4)
  rules |= {name: value for name, value in options.items() if name in known}
  others = {name: value for name, value in options.items() if name not in known}
  wanted = LongVideoOptions(
    count=count,
    rules=VideoRules(**rules),
    reading=ReadingRules(**(dict(held_out=0.0) | (reading or {}))),
    **others,
  )
  return synthesize(paths, out, wanted, processes=processes, force=force)


def read_records(folder, pattern="train-*.jsonl"):
  """The records of the shards of a folder, in order."""
  records = []
  for path in sorted(folder.glob(pattern)):
    with open(path, encoding="utf-8", newline="\n") as file:
      records += map(json.loads, file)
  return records


def content(folder):
  """Everything that a folder holds, by path."""
  paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
  return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
