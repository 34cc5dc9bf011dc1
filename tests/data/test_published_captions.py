# SPDX-License-Identifier: Apache-2.0
"""Captions of public data sets, invented, as training and as `filax data synthesize` read them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.manifest import llava
from data_pipelines.manifest.captioned import SHAPES, record_captions
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.caption_reader import CaptionReader, ReadingRules, spooled_clip

DOOR = "A man in a red shirt opens the door."
CUP = "A cup stands on a wooden table."
INTERNVID = {"YoutubeID": "zCmXDCmMOwI", "Start_timestamp": "00:07:33.689", "Caption": DOOR}
INTERNVID |= {"End_timestamp": "00:07:51.085", "Aesthetic_Score": 4.3, "UMT_Score": 0.4}
SHAREGPT4VIDEO = {"video_id": "0e1a", "video_path": "ego4d/0e1a.mp4", "keyframe": [0, 2]}
SHAREGPT4VIDEO |= {"timestamp": ["00:00:01.500", "00:00:12.000"], "zip_folder": "ego4d/1.zip"}
SHAREGPT4VIDEO |= {
  "captions": [{"idx": "1", "content": "It begins."}, {"idx": "-1", "content": DOOR}]
}
VRIPT = {
  "meta": {"video_id": "339dXVNQXac", "num_clips": 2, "integrity": True},
  "data": {
    "339dXVNQXac-Scene-001": {
      "video_id": "339dXVNQXac",
      "clip_id": "339dXVNQXac-Scene-001",
      "caption": {"shot_type": "Medium", "content": DOOR, "scene_title": "Door"},
      "voiceover": ["Hello."],
    },
    "339dXVNQXac-Scene-002": {"video_id": "339dXVNQXac", "caption": {"content": CUP}},
  },
}


SHOTS = {"video": "x.mp4", "id": 0, "whole_caption": DOOR, "whole_ASR": "Hello.", "nvid": "x.mp4"}
SHOTS |= {"video_names": ["x_1.mp4", "x_2.mp4"], "captions": [DOOR, CUP], "ASR": ["", ""]}


def span(start, end):
  return {"start_timestamp": f"00:00:{start:06.3f}", "end_timestamp": f"00:00:{end:06.3f}"}


def fine_scene(start, end, *activities):
  listed = [{"description": text, "timestamp": span(start, end)} for text in activities]
  return {"sceneId": 1, "title": "x", "activities": listed, "timestamps": span(start, end)}


FINEVIDEO = {
  "content_metadata": {
    "scenes": [fine_scene(0, 8, "A man comes in", DOOR), fine_scene(8, 20.5, CUP)]
  },
  "duration_seconds": 21,
  "original_video_filename": "abc.mp4",
}
OPENVID = "video,caption,aesthetic score,camera motion,frame,fps,seconds\n"
WEBVID = "videoid,contentUrl,duration,page_dir,name\n"
PANDA = "videoID,url,timestamp,caption,matching_score\n"
SPANS = "\"[['0:00:16.300', '0:00:32.566'], ['0:00:44.100', '0:00:49.066']]\""
SPREAD = "spread margarine on two slices"
COOK = {"annotations": [{"segment": [90, 102], "id": 0, "sentence": SPREAD}]}
CONVERSATION = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": DOOR}]

# File -> (content, the clips: medium, start and length in milliseconds, caption).
FILES = {
  "internvid.jsonl": (json.dumps(INTERNVID), [("zCmXDCmMOwI.mp4", 453.689, 17396, DOOR)]),
  "sharegpt4video_40k.jsonl": (json.dumps(SHAREGPT4VIDEO), [("ego4d/0e1a.mp4", 1.5, 10500, DOOR)]),
  "openvid.csv": (f"{OPENVID}a_0.mp4,{DOOR},5,static,100,25.0,4.0\n", [("a_0.mp4", 0, 4000, DOOR)]),
  "webvid.csv": (
    f"{WEBVID}21179416,https://a.b/x.mp4,PT00H00M11S,006001_006050,{DOOR}\n",
    [("006001_006050/21179416.mp4", 0, -1, DOOR)],
  ),
  "panda70m.csv": (
    f'{PANDA}---4IxR2xOg,https://a.b,{SPANS},"[""{DOOR}"", \'{CUP}\']","[0.4, 0.5]"\n',
    [("---4IxR2xOg.mp4", 16.3, 16266, DOOR), ("---4IxR2xOg.mp4", 44.1, 4966, CUP)],
  ),
  "339dXVNQXac_caption.json": (
    json.dumps(VRIPT, indent=1),
    [
      ("339dXVNQXac/339dXVNQXac-Scene-001.mp4", 0, -1, DOOR),
      ("339dXVNQXac/339dXVNQXac-Scene-002.mp4", 0, -1, CUP),
    ],
  ),
  "shot2story.json": (
    json.dumps([SHOTS]),
    [("x_1.mp4", 0, -1, DOOR), ("x_2.mp4", 0, -1, CUP)],
  ),
  "finevideo.jsonl": (
    json.dumps(FINEVIDEO),
    [("abc.mp4", 0, 8000, "A man comes in. " + DOOR), ("abc.mp4", 8, 12500, CUP)],
  ),
  "youcook2.json": (
    json.dumps({"database": {"GLd3aX16zBg": COOK}}),
    [("GLd3aX16zBg.mp4", 90, 12000, SPREAD)],
  ),
  "captions.jsonl": (
    json.dumps({"video": "a.mp4", "caption": DOOR, "start": 1, "end": 6.5}),
    [("a.mp4", 1, 5500, DOOR)],
  ),
  "conversation.json": (
    json.dumps([{"video": "a.mp4", "caption": "Other words.", "conversations": CONVERSATION}]),
    [("a.mp4", 0, -1, DOOR)],
  ),
}


def read_clips(path, **rules):
  """(clips, reasons of bad records) of a file, and their ids."""
  spool = path.with_suffix(".spool")
  result = CaptionReader(ReadingRules(**rules), {})((str(path), str(spool)))
  data = spool.read_bytes()
  clips = []
  for start, size, length in zip(
    *(result.columns[name] for name in ("start", "size", "milliseconds")), strict=True
  ):
    clip = spooled_clip(data[start : start + size])
    caption = json.loads(b'"' + clip.caption + b'"')
    clips.append((clip.path, float(clip.start), length, caption))
  return clips, [bad.reason for bad in result.bad], result


@pytest.mark.parametrize("name", FILES)
def test_clips(name, tmp_path):
  text, wanted = FILES[name]
  path = tmp_path / name
  path.write_text(text)
  clips, bad, _ = read_clips(path)
  assert (clips, bad) == (wanted, [])


@pytest.mark.parametrize("name", ["internvid.jsonl", "sharegpt4video_40k.jsonl", "webvid.csv"])
def test_one_caption_is_trained(name, tmp_path):
  text, ((medium, start, length, caption),) = FILES[name]
  path = tmp_path / name
  path.write_text(text)
  (sample,) = llava.read_manifest(path)
  end = None if length < 0 else pytest.approx(start + length / 1000, abs=0.001)
  assert sample.media == ((Scene(f"{tmp_path}/{medium}", t0=start, t1=end),),)
  assert [turn.text for turn in sample.turns] == ["\nDescribe the video.", caption]


@pytest.mark.parametrize("record", [VRIPT, SHOTS, FINEVIDEO])
def test_scenes_are_for_long_videos(record):
  with pytest.raises(RecordError, match="filax data synthesize makes long videos of them"):
    llava.parse_record(record, "m:1", "")


def test_a_parquet_file_of_finevideo(tmp_path):
  facts = FINEVIDEO | {"original_video_filename": "other.mp4"}
  table = pa.table({"mp4": pa.array([b"video", b"video"], pa.binary()), "json": [facts, facts]})
  path = tmp_path / "media" / "train-00000.parquet"
  path.parent.mkdir()
  pq.write_table(table, path)
  clips, bad, result = read_clips(path, root=str(tmp_path))
  names = [f"media/train-00000.parquet#{row}/mp4" for row in (0, 0, 1, 1)]
  assert bad == [] and [clip[0] for clip in clips] == names
  assert clips[1][1:] == (8, 12500, CUP) and not result.columns["missing"].any()
  assert result.columns["key"][0] == result.columns["key"][1] != result.columns["key"][2]
  clips, bad, _ = read_clips(path)
  assert clips == [] and "is not a path inside a root" in bad[0]


def changed(record, **changes):
  return {**record, **changes}


BAD = {
  "nothing": ({"video": "a.mp4", "text": DOOR}, 'its keys are "video, text"'),
  "a time": (changed(INTERNVID, End_timestamp="later"), 'has the time "later", which is not H:MM'),
  "no times": (changed(SHAREGPT4VIDEO, timestamp=[]), "has timestamp [], which is not a list of"),
  "an order": (changed(SHAREGPT4VIDEO, timestamp=[3, 1]), "whose times are not in order"),
  "no whole": (changed(SHAREGPT4VIDEO, captions=[{"idx": "1"}]), "of which none has the idx -1"),
  "no data": (changed(VRIPT, data=[]), "has data [], which is not an object of scenes"),
  "a scene": (
    changed(VRIPT, data={"x": {"caption": {}}}),
    'the scene "x" without a video_id and a',
  ),
  "shots": (changed(SHOTS, captions=[DOOR]), "which are not those of its captions"),
  "no scenes": (changed(FINEVIDEO, content_metadata={}), "has content_metadata without a list of"),
  "no activity": (
    changed(FINEVIDEO, content_metadata={"scenes": [fine_scene(0, 8)]}),
    "has scene 1 without activities",
  ),
  "seconds": (
    {"video": "a.mp4", "caption": DOOR, "camera motion": "pan", "seconds": "x"},
    'has seconds "x", which is not a number',
  ),
  "counts": (
    {"videoID": "a", "timestamp": "[]", "caption": "['a']"},
    "has 0 times and 1 captions",
  ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_understood_is_named(name, tmp_path):
  record, reason = BAD[name]
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(record))
  clips, bad, _ = read_clips(path)
  assert clips == [] and len(bad) == 1 and reason in bad[0]


def test_scenes_of_a_record_have_ids_of_their_own(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(FINEVIDEO))
  _, _, result = read_clips(path)
  data = path.with_suffix(".spool").read_bytes()
  second = spooled_clip(data[result.columns["start"][1] :])
  assert second.id == b'"a.jsonl:1#2"'


@pytest.mark.parametrize("record", [VRIPT, SHOTS, FINEVIDEO])
def test_clips_of_a_video_have_one_key(record, tmp_path):
  path = tmp_path / "a.json"
  path.write_text(json.dumps(record))
  _, _, result = read_clips(path)
  assert len(result.columns["key"]) == 2 and len(set(result.columns["key"])) == 1


def test_every_shape_has_an_example(tmp_path):
  names = set()
  for name, (text, _) in FILES.items():
    path = tmp_path / name
    path.write_text(text)
    for record in llava.located_records(path):
      names |= {shape.name for shape in SHAPES if shape.keys <= record.record.keys()}
  assert names == {shape.name for shape in SHAPES}
  assert record_captions({"video": "a.mp4", "caption": DOOR}) is None
