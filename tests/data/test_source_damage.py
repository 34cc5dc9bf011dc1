# SPDX-License-Identifier: Apache-2.0
"""Damaged files of a source give tracks, bad records or a ManifestError, and nothing else."""

import json
import pathlib
import pickle
import random

import pytest

from data_pipelines.manifest.report import ManifestError
from data_pipelines.synthesis.sources import registry
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import parse_track, track_record

UID = "0b4cacb1-970f-4ef0-85da-371d81f89900"
SPANS = str([[f"0:{n:02d}:00.000", f"0:{n:02d}:50.000"] for n in range(5)])
TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat sits on a wall."}]
EVENT = dict(t0=1, t1=2, text="a", label="", place="")
SCENE = dict(media="a.mp4", kind="video", t0=0, t1=9, at=0)
OWN = dict(key="a", media=[SCENE], duration=9, events=[EVENT], parts=[])
ANNOTATION = dict(segment=[1, 2.5], id=0)
EGO4D_VIDEO = dict(video_uid=UID, duration_sec=9, redacted_intervals=[], concurrent_sets=["a"])
HTSTEP_VIDEO = dict(subset="train", activity="Soup", annotations=[ANNOTATION])
SUMMARY = dict(vid=UID, video_summary="C", sids=["s"])
SEGMENT = dict(vid=UID, sid="s", start_sec=0, end_sec=9, segment_description="C", captions_gt=[])
NARRATION = dict(timestamp_sec=1, narration_text="#C C sits")
FILES = {
  "panda70m": {
    "panda70m.csv": "videoID,url,timestamp,caption,matching_score\n"
    f"AbCdEfGhIjK,u,\"{SPANS}\",\"['a', 'b', 'c', 'd', 'e']\",[]\n",
  },
  "howto_interlink": {
    "howto.tsv": "video\tclips\tx\na.webm\t"
    '"[{""clip"": ""0:00:00 - 0:00:05"", ""caption"": ""a""}]"\tb\n',
  },
  "htstep": {
    "annotations.json": json.dumps({"AbCdEfGhIjK": HTSTEP_VIDEO}),
    "taxonomy.csv": "global_step_index,activity,headline\n0,Soup,Boil water\n",
  },
  "miradata": {
    "miradata_v0.csv": "index,start_frame,end_frame,fps,short_caption,dense_caption,"
    "main_object_caption,background_caption,\n01_AbCdEfGhIjK-01,0,300,30,a,b,c,d,\n",
  },
  "llava_captions": {"a.json": json.dumps([dict(video="a.mp4", duration=9, conversations=TURNS)])},
  "track_files": {"a.jsonl": json.dumps(OWN)},
  "ego4d_hcap": {
    "ego4d.json": json.dumps(dict(videos=[EGO4D_VIDEO])),
    "clips.pkl": pickle.dumps([(UID, 1.0, 2.0, "C sits")]),
    "segments.json": json.dumps([SEGMENT]),
    "videos.json": json.dumps([SUMMARY]),
    "narration.json": json.dumps({UID: {"narration_pass_1": {"narrations": [NARRATION]}}}),
  },
}
VALUES = [
  b"null",
  b"-1",
  b"1e999",
  b"NaN",
  b"[]",
  b"{}",
  b'"',
  b"\xff",
  b"true",
  b"\n",
  b",",
  b"\\u",
]


def damaged(content, draw):
  """Some bytes replaced, a stretch cut out or values put in."""
  data = bytearray(content)
  for _ in range(draw.randint(1, 3)):
    start = draw.randrange(len(data) + 1)
    stop = start + draw.choice([0, 1, 1, 2, 5, 20])
    data[start:stop] = draw.choice([*VALUES, b"", bytes([draw.randrange(256)])])
  return bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_reported(name, tmp_path):
  source = registry.find_source(name)
  contents = {}
  for file, content in FILES[name].items():
    contents[tmp_path / file] = content if isinstance(content, bytes) else content.encode()
  paths = [str(path) for path in contents]
  tracks = 0
  for seed in range(-1, 250):
    draw = random.Random(seed)
    spoilt = draw.choice(list(contents))
    for path, content in contents.items():
      pathlib.Path(path).write_bytes(
        damaged(content, draw) if path == spoilt and seed >= 0 else content
      )
    report = TrackReport()
    try:
      for track in source.read_tracks(paths, "", report):
        assert parse_track(track_record(track)) == track
        assert all(0 <= event.t0 < event.t1 <= track.duration for event in track.events)
        tracks += 1
    except ManifestError as error:
      assert str(error)
    if seed < 0:
      assert tracks == 1 and not report.bad
  assert tracks > 5
