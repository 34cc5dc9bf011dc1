# SPDX-License-Identifier: Apache-2.0
"""Long videos over real clips: what a caption says is what its seconds show."""

import json
import re
import shutil

from longvideo_captions import SOURCE, captioned, content, read_records, write_captions
import numpy as np
import pytest

from data_pipelines.loader import Pipeline, make_plan
from data_pipelines.media.encoder import write_h264
from data_pipelines.media.frames import probe
from filax.cli.data import main
from filax.testing import clips, corpora

COLOURS = dict(red=(200, 30, 30), green=(30, 160, 30), blue=(30, 30, 200), white=(230, 230, 230))
LINE = re.compile(r"(\d+) - (\d+) seconds: The whole screen is (\w+) .*")
FRAMES = 24
FPS = 5
OPTIONS = ("--minutes", "0.15:0.5", "--mean", "14", "--min-scenes", "3", "--count", "4")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
  """A folder with clips of one colour each, and their captions."""
  folder = tmp_path_factory.mktemp("media")
  records = []
  for number in range(16):
    name = list(COLOURS)[number % 4]
    video = f"academic_source/Charades/CLIP{number:X}.mp4"
    path = folder / SOURCE / video
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = FPS * 2 + number % 7
    size = (48, 64, 3) if number % 2 else (64, 32, 3)
    picture = np.full(size, COLOURS[name], np.uint8)
    write_h264(path, [picture] * frames, FPS, {"preset": "ultrafast"}, threads=1)
    caption = f"The whole screen is {name} from corner to corner, {number} times."
    records.append(captioned(number, caption, video=video, duration=None))
  write_captions(folder, records)
  return folder


@pytest.fixture(scope="module")
def out(media, tmp_path_factory):
  """The folder of long videos, two of them rendered."""
  folder = tmp_path_factory.mktemp("videos") / "out"
  arguments = ["synthesize", str(media), "--out", str(folder), "--root", str(media)]
  arguments += ["--durations", "probe", "--held-out", "0", "--render", "2", *OPTIONS]
  assert main(arguments) == 0
  return folder


def colour_name(pixel):
  distances = {name: np.abs(np.subtract(pixel, rgb)).sum() for name, rgb in COLOURS.items()}
  return min(distances, key=distances.get)


def expected_colour(record, second):
  """The colour that the caption names at a second; None near a border, which is rounded."""
  for line in record["conversations"][1]["value"].split("\n"):
    start, end, colour = LINE.fullmatch(line).groups()
    if int(start) + 0.6 < second < int(end) - 0.6:
      return colour
  return None


def test_a_row_shows_at_a_captions_time_what_the_caption_says(media, out, tmp_path):
  records = read_records(out)
  data = corpora.data_config(
    tmp_path,
    train=((str(out / "train-00000-of-00001.jsonl"), "all"),),
    root=str(media),
    sampling=dict(name="uniform", frames=FRAMES, phase="ends"),
    rows=((FRAMES, 0, 4000, 1),),
    time_prompt="fila",
    packing=False,
  )
  pipe = Pipeline(make_plan(data, corpora.LAYOUT, 0, 1))
  build = pipe.materialise()
  checked = 0
  for number in range(4):
    plan_row = pipe.row(number)
    row = build(plan_row)
    record = records[plan_row.samples[0]]
    assert row["num_bad"] == 0
    for second, frame in zip(row["frame_times"], row["frames"], strict=True):
      colour = expected_colour(record, second)
      if colour:
        assert colour_name(frame.mean((0, 1))) == colour
        checked += 1
  assert checked > 30


def test_the_prompts_duration_is_that_of_the_scenes(media, out):
  for record in read_records(out):
    last = record["scenes"][-1]
    total = last["at"] + last["t1"] - last["t0"]
    seconds = sum(probe(str(media / scene["media"])).duration for scene in record["scenes"])
    assert 0 <= seconds - total < 0.001 * len(record["scenes"])


def test_a_rendered_video_shows_the_same(out):
  for record in read_records(out)[:2]:
    frames, times = clips.read_all(out / "rendered" / f"{record['id']}.mp4", 32)
    checked = 0
    for second, frame in zip(times, frames, strict=True):
      colour = expected_colour(record, second)
      if colour:
        assert colour_name(frame[16, 16]) == colour
        checked += 1
    assert checked > 5


def test_probed_lengths_are_kept_for_another_set(media, out, tmp_path):
  arguments = ["synthesize", str(media), "--out", str(tmp_path / "again"), "--root", str(media)]
  arguments += ["--durations", str(out / "index.sqlite"), "--held-out", "0", *OPTIONS]
  assert main(arguments) == 0
  assert read_records(tmp_path / "again") == read_records(out)


def test_an_unreadable_clip_is_left_out(media, tmp_path, capsys):
  root = shutil.copytree(media, tmp_path / "media")
  path = root / SOURCE / "academic_source/Charades/CLIP3.mp4"
  path.write_bytes(path.read_bytes()[:100])
  arguments = ["synthesize", str(root), "--out", str(tmp_path / "out"), "--root", str(root)]
  arguments += ["--durations", "probe", "--held-out", "0", *OPTIONS]
  assert main(arguments) == 1
  assert "1 records were left out" in capsys.readouterr().out
  assert "CLIP3.mp4" in (tmp_path / "out" / "bad.txt").read_text()


def test_a_killed_run_goes_on(media, out, tmp_path):
  again = shutil.copytree(out, tmp_path / "out")
  recipe = json.loads((again / "recipe.json").read_text())
  shards = recipe.pop("shards")
  (again / "recipe.json").write_text(json.dumps(recipe | dict(complete=False)))
  (again / "done").mkdir()
  (again / "done" / "held_out.jsonl.json").write_text(json.dumps(shards["held_out.jsonl"]))
  (again / "train-00000-of-00001.jsonl").rename(again / "train-00000-of-00001.jsonl.part")
  arguments = ["synthesize", str(media), "--out", str(again), "--root", str(media)]
  arguments += ["--durations", "probe", "--held-out", "0", *OPTIONS]
  assert main(arguments) == 0
  before = content(out)
  after = content(again)
  for name in ("recipe.json", "train-00000-of-00001.jsonl", "held_out.jsonl"):
    assert after[name] == before[name]


@pytest.mark.parametrize(
  "arguments",
  [
    ("--minutes", "30:5"),
    ("--minutes", "5"),
    ("--held-out", "100%"),
    ("--count", "0"),
    ("--captions", "frames"),
    ("--openers", "all"),
  ],
)
def test_wrong_arguments_are_errors(media, tmp_path, arguments):
  with pytest.raises(ValueError, match=arguments[0]):
    main(["synthesize", str(media), "--out", str(tmp_path / "out"), *arguments])


def test_a_folder_without_captions_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="holds no"):
    main(["synthesize", str(tmp_path), "--out", str(tmp_path / "out")])
