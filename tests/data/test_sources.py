# SPDX-License-Identifier: Apache-2.0
"""Invented files in the form of each source, with its known defects: tracks and bad lines."""

import csv
import json
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.manifest.report import ManifestError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources import registry
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Part, track_record
from filax.testing import clips


def read(name, files, root=""):
  """(tracks, [(line, reason)], report) of a source."""
  report = TrackReport()
  tracks = list(registry.find_source(name).read_tracks([str(file) for file in files], root, report))
  assert report.samples == len(tracks)
  return tracks, [(bad.line, bad.reason) for bad in report.bad], report


def check_bad(bad, expected):
  """Each expected (line, words of the reason), in order."""
  assert [line for line, _ in bad] == [line for line, _ in expected], bad
  for (_, reason), (_, words) in zip(bad, expected, strict=True):
    assert words in reason


def write_table(path, rows, delimiter=","):
  with open(path, "w", newline="", encoding="utf-8") as file:
    csv.writer(file, delimiter=delimiter).writerows(rows)
  return path


def clock(second):
  return f"{int(second // 3600)}:{int(second // 60 % 60):02d}:{second % 60:06.3f}"


PANDA = ["videoID", "url", "timestamp", "caption", "matching_score"]


def panda_row(video, spans, captions=None):
  times = [[clock(start), clock(end)] for start, end in spans]
  if captions is None:
    captions = [f"A dog's run number {number}." for number in range(len(spans))]
  url = f"https://www.youtube.com/watch?v={video}"
  return [video, url, str(times), str(captions), str([0.5] * len(spans))]


# Clips of 16 s, 4 s apart; then a gap that hides a clip; then too short a run.
RUN = [(10, 26), (30, 46), (50, 66), (70, 86)]
ROW = panda_row("-aB3_cdEfgh", [*RUN, (120, 130), (132, 140)])


@pytest.fixture
def panda(tmp_path):
  rows = [
    PANDA,
    ROW,
    panda_row("AbCdEfGhIjK", RUN, ["unequal"]),
    panda_row("AbCdEfGhIjK", [(0, 5), (60, 70)]),
    panda_row("-aB3_cdEfgh", RUN),
    ["bCdEfGhIjKl", "url", "[('0:00:01.000',", "[]", "[]"],
    ["cCdEfGhIjKl", "url", "[['0:00:61.000', '0:01:00.000']]", "['a']", "[]"],
    panda_row("../../etc/x", RUN),
    panda_row("dCdEfGhIjKl", [*RUN[::-1], (200, 190)], ["it's", '"so"', "c", "d", "e"]),
  ]
  return write_table(tmp_path / "panda70m_training_full.csv", rows)


PANDA_BAD = [
  (3, "4 times and 1 captions"),
  (4, "no 4 neighbouring clips"),
  (5, "a second row of the video"),
  (6, "not a list in Python's form"),
  (7, "not a time of a clock"),
  (8, "not an id"),
]


def test_panda_runs_begin_at_zero(panda):
  tracks, bad, _ = read("panda70m", [panda])
  check_bad(bad, PANDA_BAD)
  first, last = tracks
  assert first.key == "-aB3_cdEfgh"
  assert first.media == (Scene("-aB3_cdEfgh.mp4", t0=10, t1=86),)
  assert first.duration == 76
  assert [(event.t0, event.t1) for event in first.events] == [(0, 16), (20, 36), (40, 56), (60, 76)]
  assert [event.text for event in last.events] == ["d", "c", '"so"', "it's"]
  assert not first.exhaustive


def test_panda_takes_the_videos_of_a_list(panda, tmp_path):
  videos = write_table(
    tmp_path / "panda70m_training_10m.csv", [PANDA, panda_row("dCdEfGhIjKl", RUN)]
  )
  tracks, bad, report = read("panda70m", [panda, videos])
  assert [track.key for track in tracks] == ["dCdEfGhIjKl"]
  check_bad(bad, [(8, "not an id")])
  assert report.repairs["rows: of videos that are not in the list, passed over"] == 6


def test_panda_without_the_video_is_bad(panda, tmp_path):
  (tmp_path / "media").mkdir()
  (tmp_path / "media/dCdEfGhIjKl.webm").touch()
  tracks, bad, _ = read("panda70m", [panda], str(tmp_path / "media"))
  assert [track.media[0].media for track in tracks] == ["dCdEfGhIjKl.webm"]
  assert bad[0][0] == 2 and "no video" in bad[0][1]


def test_panda_clip_files_last_as_long_as_together(panda):
  tracks, _, _ = read("panda70m_clips", [panda])
  first = tracks[0]
  assert [scene.media for scene in first.media] == [f"00000/0000000_0000{n}.mp4" for n in range(4)]
  assert [(scene.at, scene.t1) for scene in first.media] == [(0, 16), (16, 16), (32, 16), (48, 16)]
  assert first.duration == 64
  assert [event.t0 for event in first.events] == [0, 16, 32, 48]


def test_panda_clip_files_must_be_of_the_rows_video(panda, tmp_path):
  folder = tmp_path / "media/00000"
  folder.mkdir(parents=True)
  for row in (0, 7):
    for clip in range(6):
      (folder / f"{row:07d}_{clip:05d}.mp4").touch()
      facts = dict(url="https://www.youtube.com/watch?v=-aB3_cdEfgh", status="success")
      (folder / f"{row:07d}_{clip:05d}.json").write_text(json.dumps(facts))
  tracks, bad, _ = read("panda70m_clips", [panda], str(tmp_path / "media"))
  assert [track.key for track in tracks] == ["-aB3_cdEfgh"]
  assert bad[-1][0] == 9 and "of another video" in bad[-1][1]
  (folder / "0000000_00001.mp4").unlink()
  tracks, bad, report = read("panda70m_clips", [panda], str(tmp_path / "media"))
  assert tracks == []
  assert bad[0][0] == 2 and "no 4 neighbouring clip files" in bad[0][1]
  assert report.repairs["clips: without a file, dropped"] >= 1


def test_a_published_test_split_is_refused(tmp_path):
  with pytest.raises(ValueError, match="validation or test split"):
    read("panda70m", [tmp_path / "panda70m_validation.csv"])


def interlink_clips(*spans):
  rows = []
  for number, (start, end) in enumerate(spans):
    rows.append(
      dict(clip_id=str(number), clip=f"0:00:{start:02d} - 0:00:{end:02d}", caption=f'A "{number}".')
    )
  return json.dumps(rows)


@pytest.fixture
def interlink(tmp_path):
  rows = [
    ["video", "clips", "document"],
    ["AbCdEfGhIjK.webm", interlink_clips((0, 5), (6, 9), (9, 30), (28, 40)), "A long text."],
    ["bCdEfGhIjKl.webm", '[{"clip_id": "0"', "x"],
    ["AbCdEfGhIjK.webm", interlink_clips((0, 5)), "Again."],
    [
      "cCdEfGhIjKl.webm",
      json.dumps([dict(clip="5", caption="a"), dict(clip="0:00:01 - 0:00:02")]),
      "",
    ],
    ["dCdEfGhIjKl.webm", interlink_clips((0, 5)), "No file."],
  ]
  return write_table(tmp_path / "Howto-Interlink7M_subset_w_all_clips_train.tsv", rows, "\t")


def test_interlink_ends_with_its_video(interlink, tmp_path):
  durations = tmp_path / "durations.jsonl"
  durations.write_text('{"media": "AbCdEfGhIjK.mp4", "duration": 28.5}\n')
  tracks, bad, report = read("howto_interlink", [interlink, durations])
  check_bad(bad, [(3, "not JSON"), (4, "a second row"), (5, "no clip with a time and a caption")])
  first = tracks[0]
  assert first.duration == 28.5
  assert [(event.t0, event.t1) for event in first.events] == [(0, 5), (6, 9), (9, 28.5)]
  assert first.events[0].text == 'A "0".'
  assert first.summary == "A long text."
  assert report.repairs["events: outside of the video, dropped"] == 1
  assert report.repairs["events: partly outside of the video, cut"] == 1
  assert report.repairs["tracks: of unknown duration, ended with the last event"] == 1


def test_durations_are_read_from_the_media(interlink, tmp_path):
  (tmp_path / "media").mkdir()
  clips.write_video(tmp_path / "media/AbCdEfGhIjK.mp4", frames=40, fps=4)
  tracks, bad, _ = read("howto_interlink", [interlink], str(tmp_path / "media"))
  assert tracks[0].duration == pytest.approx(10, abs=0.3)
  assert len(tracks[0].events) == 3
  assert bad[-1] == (6, 'has no video "dCdEfGhIjKl" in the folder of the media')


def taxonomy(path):
  header = "global_step_index,activity,step_index,variation,variation_index,headline,paragraph"
  rows = [header.split(","), ["0", "Make Soup", "0", "none", "1", "Chop the onion.", ""]]
  rows += [["2", "Make Soup", "1", "none", "1", "Boil water", "Use a pot."], []]
  rows += [["5", "Fry Rice", "0", "none", "1", "Boil water", ""]]
  rows += [
    ["5", "Fry Rice", "1", "none", "1", "Again 5", ""],
    ["x", "Fry Rice", "", "", "", "a", ""],
  ]
  return write_table(path, rows)


def steps(*entries):
  return [dict(segment=[start, end], id=number) for start, end, number in entries]


HTSTEP = {
  "AbCdEfGhIjK": dict(
    subset="train",
    activity="Make soup",
    annotations=steps((30, 40, 2), (10, 20, 0), (30.0005, 40, 2), (50, 60, 1), (70, 80, 2)),
  ),
  "bCdEfGhIjKl": dict(subset="val_seen", activity="Make Soup", annotations=steps((1, 2, 0))),
  "cCdEfGhIjKl": dict(
    subset="train", activity="Make Soup", annotations=steps((1, 2, 0), (3, 5, 5))
  ),
  "dCdEfGhIjKl": dict(subset="test_seen", activity="Make Soup"),
  "eCdEfGhIjKl": dict(subset="train", activity="Fry Rice", annotations=steps((5, 9, 5))),
}


@pytest.fixture
def htstep(tmp_path):
  annotations = tmp_path / "annotations.json"
  annotations.write_text(json.dumps(HTSTEP, indent=0))
  return [annotations, taxonomy(tmp_path / "taxonomy.csv")]


def test_htstep_steps_are_found_by_index(htstep):
  tracks, bad, _ = read("htstep", htstep)
  lines = htstep[0].read_text().split("\n")
  val, other, test = (lines.index(f'"{name}": {{') + 1 for name in list(HTSTEP)[1:4])
  check_bad(
    bad,
    [
      (4, "blank row"),
      (6, "a second step 5"),
      (7, "not a number"),
      (2, "step 1, which is not in the taxonomy"),
      (val, "val_seen"),
      (other, 'activity "Make Soup" but has steps of "Fry Rice"'),
      (test, "no list of annotations"),
    ],
  )
  first, second = tracks
  assert [(event.t0, event.text) for event in first.events] == [
    (10, "Chop the onion."),
    (30, "Boil water"),
    (70, "Boil water"),
  ]
  assert first.exhaustive
  assert first.summary == "Make soup"
  assert second.key == "eCdEfGhIjKl"


def test_htstep_splits_may_be_in_a_file(htstep, tmp_path):
  splits = tmp_path / "video_splits.json"
  splits.write_text(json.dumps(dict(train=["AbCdEfGhIjK"], val_seen=["eCdEfGhIjKl"])))
  tracks, _, _ = read("htstep", [*htstep, splits])
  assert [track.key for track in tracks] == ["AbCdEfGhIjK"]


def test_htstep_with_another_taxonomy_fails(htstep, tmp_path):
  videos = {}
  for number in range(25):
    videos[f"bCdEfGhIj{number:02d}"] = dict(activity="Make Soup", annotations=steps((1, 2, 5)))
  htstep[0].write_text(json.dumps(videos))
  with pytest.raises(ManifestError, match="not those of this taxonomy"):
    read("htstep", htstep)


MIRA_0 = "index,start_frame,end_frame,fps,start_timestep,short_caption,dense_caption"
MIRA_0 = [*MIRA_0.split(","), "main_object_caption", "background_caption", ""]


def mira_0(index, start, end, fps=30):
  name = index[-2:]
  captions = [f"short {name}", f"dense {name}", f"A fox runs {name}", f"a wood {name}"]
  return [index, start, end, fps, "0:00:00", *captions, ""]


def test_miradata_0_chains_neighbours(tmp_path):
  path = tmp_path / "miradata_v0.csv"
  rows = [MIRA_0]
  rows.append(mira_0("000000000001_AbCdEfGhIjK-000002", 3600, 7200))
  rows.append([""] * 10)
  rows.append(mira_0("000000000001_AbCdEfGhIjK-000001", 0, 3600))
  rows.append(mira_0("000000000001_AbCdEfGhIjK-000004", 9000, 12600))
  rows.append(mira_0("000000000002_-aB3_cdEfgh-000001", 0, 3597, 29.97))
  rows.append(mira_0("AbCdEfGhIjK", 0, 3600))
  rows.append(mira_0("000000000001_AbCdEfGhIjK-000003", 7300, 7200))
  rows.append(mira_0("000000000001_AbCdEfGhIjK-000004", 9000, 12600))
  write_table(path, rows)
  path.write_bytes(path.read_bytes().replace(b"a wood 01", b"a caf\xe9 01", 1))
  tracks, bad, report = read("miradata", [path])
  check_bad(
    bad,
    [(3, "blank row"), (7, "NUMBER_VIDEO-CLIP"), (8, "not a time"), (9, "a second row of clip 4")],
  )
  single, chain, alone = tracks
  assert (single.key, chain.key, alone.key) == ("-aB3_cdEfgh", "AbCdEfGhIjK", "AbCdEfGhIjK")
  assert single.duration == pytest.approx(120.02, abs=0.001)
  assert chain.media == (Scene("AbCdEfGhIjK.mp4", t0=0, t1=240),)
  assert chain.events == (
    Event(0, 120, "A fox runs 01", place="a café 01"),
    Event(120, 240, "A fox runs 02", place="a wood 02"),
  )
  assert chain.parts == (
    Part(0, 240, "", 0, 2),
    Part(0, 120, "dense 01", 0, 1),
    Part(120, 240, "dense 02", 1, 2),
  )
  assert report.repairs["clips: in chains of neighbours"] == 2
  assert report.repairs["miradata_v0.csv: a line that is not UTF-8 was read as cp1252"] == 1


MIRA_1 = ["clip_id", "source", "video_id", "video_url", "timestamp", "fps", "file_path"]
MIRA_1 += ["short_caption", "dense_caption", "main_object_caption", "background_caption"]


def mira_1(clip, start, end):
  times = str([f"0{clock(start)}", f"0{clock(end)}"])
  path = f"clips/{clip}.mp4"
  return [clip, "youtube", "AbCdEfGhIjK", "u", times, "30", path, "s", "d", f"A fox {clip}", "b"]


@pytest.fixture
def mira(tmp_path):
  rows = [MIRA_1]
  for number in range(1, 12):
    rows.append(mira_1(f"12.{number}", 60 * number, 60 * number + 59.9))
  rows.append(mira_1("12", 0, 1))
  rows.append(["12.20", "", "", "", "['0:00:01']", "", "", "", "", "a", ""])
  return write_table(tmp_path / "miradata_v1_9k.csv", rows)


def test_miradata_1_ids_are_text(mira):
  tracks, bad, _ = read("miradata", [mira])
  check_bad(bad, [(13, "NUMBER.CLIP"), (14, "not a start and end")])
  assert len(tracks) == 1
  assert [event.text for event in tracks[0].events] == [f"A fox 12.{n}" for n in range(1, 12)]
  assert tracks[0].media == (Scene("AbCdEfGhIjK.mp4", t0=60, t1=719.9),)
  assert tracks[0].events[1].t0 == 60


def test_miradata_clip_files_last_as_long_as_together(mira, tmp_path):
  (tmp_path / "clips").mkdir()
  for number in (1, 2, 4):
    (tmp_path / f"clips/12.{number}.mp4").touch()
  tracks, bad, _ = read("miradata", [mira], str(tmp_path))
  assert len(bad) == 2 + 8
  chain = tracks[0]
  assert [(scene.media, scene.at) for scene in chain.media] == [
    ("clips/12.1.mp4", 0),
    ("clips/12.2.mp4", 59.9),
  ]
  assert chain.duration == pytest.approx(119.8)
  assert chain.events[1].t0 == 59.9


def llava(video, text="A cat sits on the old wall.", **fields):
  turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": text}]
  return dict(id="1", conversations=turns, data_source="0_30_s_x", video=video, **fields)


def test_llava_captions_are_tracks_of_one_event(tmp_path):
  records = [
    llava("youcook2/GLd3aX16zBg/split_3.mp4", duration=20.5),
    llava("youcook2/GLd3aX16zBg/split_3.mp4", duration=20.5),
    llava("a.mp4"),
    llava("../a.mp4", duration=3),
    llava("b.mp4", "Too short.", duration=3),
    "text",
  ]
  path = tmp_path / "0_30_s_cap_processed.json"
  path.write_text(json.dumps(records, indent=0))
  lines = [number for number, line in enumerate(path.read_text().split("\n"), 1) if '"id"' in line]
  tracks, bad, _ = read("llava_captions", [path])
  words = ["a second record", "duration", "not a path inside", "less than 5 words"]
  expected = [(line - 1, word) for line, word in zip(lines[1:], words, strict=True)]
  check_bad(bad, [*expected, (bad[-1][0], "not an object")])
  track = tracks[0]
  assert track.key == "GLd3aX16zBg"
  assert track.media == (Scene("0_30_s_x/youcook2/GLd3aX16zBg/split_3.mp4", t1=20.5),)
  assert track.events == (Event(0, 20.5, "A cat sits on the old wall."),)


def test_own_tracks_are_checked(panda, tmp_path):
  track = read("panda70m", [panda])[0][0]
  good = track_record(track)
  records = [
    good,
    dict(good, duration=0),
    dict(good, media=[dict(good["media"][0], media="../x.mp4")]),
    dict(good, events=[dict(t0="0", t1=1, text="a")]),
    dict(good, parts=[dict(t0=0, t1=1, text="a", first=0, stop=99)]),
    {"key": "x"},
  ]
  path = tmp_path / "own.jsonl"
  path.write_text("".join(json.dumps(record) + "\n" for record in records) + "{]\n")
  tracks, bad, _ = read("track_files", [path])
  assert tracks == [track]
  words = ["no duration", "inside", "not a number", "not there", "is not a track", "is not JSON"]
  check_bad(bad, list(zip(range(2, 8), words, strict=True)))


def test_sources_have_help():
  for name, source in registry.all_sources().items():
    assert source.files and source.media and source.licence, name


def test_an_unknown_source_is_named():
  with pytest.raises(ValueError, match=r"There is no source 'x'\. The sources are: dense_cap"):
    registry.find_source("x")


def test_a_private_source_is_found(monkeypatch):
  module = types.ModuleType("private_lab")
  module.OURS = registry.find_source("htstep")
  module.OTHER = 1
  monkeypatch.setitem(__import__("sys").modules, "private_lab", module)
  assert registry.find_source("private_lab:OURS") is module.OURS
  with pytest.raises(ValueError, match="not a TrackSource"):
    registry.find_source("private_lab:OTHER")
  with pytest.raises(ValueError, match="There is no source"):
    registry.find_source("private_lab:NONE")


def test_a_file_without_a_role_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"steps\.json is none of the files"):
    read("htstep", [tmp_path / "steps.json"])
  with pytest.raises(ValueError, match=r"A file named taxonomy… is missing"):
    read("htstep", [tmp_path / "annotations.json"])


# Sentences with times.


def dense(sentences, spans, **more):
  return {"sentences": sentences, "timestamps": spans, **more}


def test_sentences_of_activitynet(tmp_path):
  path = tmp_path / "train.json"
  spans = [[17.4, 60.8], [0.8, 19.9]]
  records = {
    "v_QOlSCBRmfWY": dense(["She dances.", "A woman stands."], spans, duration=50.0),
    "v_aB3_cdEfghi": dense(["A dog runs."], [[1, 2]]),
    "v_unequalxxxx": dense(["A dog runs."], []),
    "QOlSCBRmfWY": dense(["Again."], [[1, 2]]),
    "v_nothingxxxx": dense(["Late."], [[70, 80]], duration=50.0),
  }
  path.write_text("\n".join([json.dumps(records)[:1], json.dumps(records)[1:]]))
  tracks, bad, report = read("dense_captions", [path])
  first, second = tracks
  assert first.key == "QOlSCBRmfWY" and first.media == (Scene("v_QOlSCBRmfWY.mp4", t1=50.0),)
  assert first.events == (Event(0.8, 19.9, "A woman stands."), Event(17.4, 50.0, "She dances."))
  assert second.duration == 2.0 and sum(report.repairs.values()) >= 2
  assert [reason.split(" ")[:4] for _, reason in bad] == [
    ["has", "1", "sentences", "but"],
    ["is", "a", "second", "record"],
    ["has", "no", "sentence", "inside"],
  ]


def test_sentences_of_youcook2_and_other_containers(tmp_path):
  path = tmp_path / "youcookii_annotations_trainval.json"
  step = {"segment": [90, 102], "id": 0, "sentence": "spread margarine"}
  cook = {"duration": 241.62, "subset": "training", "annotations": [step]}
  held = cook | {"subset": "validation"}
  path.write_text(json.dumps({"database": {"GLd3aX16zBg": cook, "xHr8X2Wpmno": held}}))
  (tmp_path / "GLd3aX16zBg.webm").write_bytes(b"")
  (track,), bad, _ = read("dense_captions", [path], str(tmp_path))
  assert track.media == (Scene("GLd3aX16zBg.webm", t1=241.62),)
  assert track.events == (Event(90.0, 102.0, "spread margarine"),)
  check_bad(bad, [(1, "of the subset")])
  with pytest.raises(ValueError, match="published validation or test split"):
    read("dense_captions", [path.rename(tmp_path / "val_1.json")])


def test_scenes_of_finevideo(tmp_path):
  def scene(start, text):
    times = {"start_timestamp": f"00:00:0{start}.000", "end_timestamp": f"00:00:0{start + 2}.500"}
    return {"activities": [{"description": text}] if text else [], "timestamps": times}

  facts = {
    "content_metadata": {"scenes": [scene(0, "A man sits"), scene(3, ""), scene(5, "He runs")]}
  }
  folder = tmp_path / "media"
  folder.mkdir()
  clip = clips.write_video(folder / "a.mp4", 20)
  with open(clip, "rb") as file:
    cells = pa.array([file.read()], pa.binary())
  pq.write_table(pa.table({"mp4": cells, "json": [facts]}), folder / "train-0.parquet")
  (track,), bad, report = read("dense_captions", [folder / "train-0.parquet"], str(tmp_path))
  assert bad == [] and track.media[0].media == "media/train-0.parquet#0/mp4"
  assert track.events[0] == Event(0.0, min(2.5, track.duration), "A man sits.")
  assert report.repairs["sentences: has scene 2 without activities, dropped"] == 1
  _, bad, _ = read("dense_captions", [folder / "train-0.parquet"], str(folder / "a.mp4"))
  assert bad
