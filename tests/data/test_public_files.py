# SPDX-License-Identifier: Apache-2.0
"""Files in the shapes of public data sets, invented: what is trained, and where records stand."""

import json

import pytest

from data_pipelines.manifest import llava, record_blocks
from data_pipelines.manifest.reader import located_records, opened_manifest, record_at
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene

WOMAN = {"duration": 82.73, "timestamps": [[0.83, 19.86], [17.4, 60.8]]}
WOMAN["sentences"] = ["A woman stands in a hall.", " She dances é."]
MARGARINE = {"segment": [90, 102], "id": 0, "sentence": "spread margarine on bread"}
FLIP = [
  {"segment": [10, 12], "id": 1, "sentence": "flip it"},
  {"segment": [20, 22], "id": 2, "sentence": "flip it"},
]
COOK = {"duration": 241.62, "subset": "training", "recipe_type": "113", "video_url": "https://a.b"}
COOKS = {
  "GLd3aX16zBg": COOK | {"annotations": [MARGARINE, *FLIP]},
  "xHr8X2Wpmno": COOK | {"annotations": [MARGARINE], "subset": "validation"},
}
HIGHLIGHT = {"qid": 9, "query": "Soldiers talk", "duration": 150, "vid": "j7rJ_360.0_510.0"}
HIGHLIGHT |= {"relevant_clip_ids": [36], "saliency_scores": [[4, 3, 2]]}
HIGHLIGHT |= {"relevant_windows": [[72, 82], [84, 94]]}
NEXTQA = """video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
4010069381,369,640,480,how do they play,0,6,CH,"roll, handle",tap,strum,hit,pat
4882821564,2697,640,480,"why did he
sit",2,1,CW,share,rest,unwrap,play,gesture
"""
OPENVID = """video,caption,aesthetic score,motion score,camera motion,frame,fps,seconds
a_0to1.mp4,A man opens a door.,5.1,3.2,static,100,25.0,4.0
"""
STA = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\n\nAO8RW 2.0 9.5##person sits down.\n"

# File -> (content, for each record its video or the reason why it is bad).
FILES = {
  "activitynet.json": (json.dumps({"v_a": WOMAN, "v_b": WOMAN}), ["v_a.mp4", "v_b.mp4"]),
  "indented.json": (json.dumps({"v_a": WOMAN, "v_b": 3}, indent=2), ["v_a.mp4", 'member "v_b": 3']),
  "youcook2.json": (
    json.dumps({"database": COOKS}, ensure_ascii=False),
    ["GLd3aX16zBg.mp4", 'is of the subset "validation"'],
  ),
  "cut.json": (json.dumps({"v_a": WOMAN, "v_b": WOMAN})[:-9], ["v_a.mp4", "cannot be read"]),
  "more.json": (json.dumps({"v_a": WOMAN}) + ' {"v_b": 1}', ["v_a.mp4", "is behind the records"]),
  "qvhighlights.jsonl": (json.dumps(HIGHLIGHT), ["j7rJ_360.0_510.0.mp4"]),
  "nextqa.csv": (NEXTQA, ["4010069381.mp4", "4882821564.mp4"]),
  "nextqa.tsv": ("video\tquestion\tanswer\n1.mp4\tWho?\tHe\n1.mp4\tWho?\n", ["1.mp4", "2 cells"]),
  "openvid.csv": ("\ufeff" + OPENVID, ["a_0to1.mp4"]),
  "parts.csv": ("video,start,end,caption\na.mp4,1,2.5,A dog.\nb.mp4,x,,A cat.\n", ["a.mp4", '"x"']),
  "charades_sta_train.txt": (STA + "no line\n", ["AO8RW.mp4", "AO8RW.mp4", "and a sentence"]),
}


def outcomes(path):
  """The video of every record, or the reason why it is bad."""
  for located in located_records(path):
    try:
      sample = llava.parse_record(located.record, "m:1", "")
      yield sample.media[0][0].media
    except RecordError as error:
      yield str(error)


@pytest.mark.parametrize("name", FILES)
def test_records(name, tmp_path):
  text, wanted = FILES[name]
  path = tmp_path / name
  path.write_text(text)
  results = list(outcomes(path))
  assert len(results) == len(wanted)
  for result, want in zip(results, wanted, strict=True):
    assert result == want or ((" " in want or '"' in want) and want in result)


@pytest.mark.parametrize("name", FILES)
def test_a_record_is_found_at_its_place(name, tmp_path):
  path = str(tmp_path / name)
  (tmp_path / name).write_text(FILES[name][0])
  good = 0
  with opened_manifest(path) as file:
    for located in located_records(path):
      if isinstance(located.record, RecordError):
        continue
      assert record_at(path, file, located.start, located.stop) == located.record
      good += 1
  assert good
  blocks = record_blocks.record_blocks(path)
  listed = [record for block in blocks for record in record_blocks.block_records(block)]
  assert list(map(str, listed)) == [str(located[:2]) for located in located_records(path)]


def answers(record):
  sample = llava.parse_record(record, "m:1", "")
  return [turn.text for turn in sample.turns if turn.role == "assistant"]


def test_events_of_the_same_text_are_one_event():
  assert answers({"vid": "a", **COOKS["GLd3aX16zBg"]}) == [
    "The event happens in the 90.0 - 102.0 seconds.",
    "The event happens in the 10.0 - 12.0 and the 20.0 - 22.0 seconds.",
  ]


def test_a_part_of_a_table(tmp_path):
  path = tmp_path / "parts.csv"
  path.write_text(FILES["parts.csv"][0])
  (sample,) = llava.read_manifest(path)
  assert sample.media == ((Scene(f"{tmp_path}/a.mp4", t0=1.0, t1=2.5),),)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("\n\n", "no first row"),
    ("a,a\n1,2\n", "two columns of the same"),
    ('"a', "no readable first"),
  ],
)
def test_a_table_without_keys_is_an_error(text, message, tmp_path):
  path = tmp_path / "a.csv"
  path.write_text(text)
  with pytest.raises(llava.ManifestError, match=message):
    list(located_records(path))
