# SPDX-License-Identifier: Apache-2.0
"""`filax data check` and `filax data build` as a user runs them."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
from PIL import Image
import pyarrow
import pyarrow.parquet
import pytest

from data_pipelines.tools import check
from filax import progress
from filax.cli import main as command
from filax.testing import clips, manifests


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """Good samples on lines 2 to 6; every kind of bad one after them."""
  folder = tmp_path_factory.mktemp("corpus")
  clips.write_video(folder / "a.mp4", 40)
  clips.write_video(folder / "b.mp4", 20)
  clips.write_picture(folder / "c.png")
  for name, (make, _) in clips.BROKEN_VIDEOS.items():
    make(folder / name)
  rows = [
    manifests.question_record("<image>\nWhat is it?", "one two three", video="a.mp4"),
    manifests.question_record("What is it?", "one", video="b.mp4", start=1),
    manifests.question_record("<image>", "one two", image="c.png"),
    manifests.question_record("No media here.", "one two three four"),
    manifests.question_record(
      "<image>", "five words are in this.", scenes=[{"media": "a.mp4", "t1": 3}, {"media": "b.mp4"}]
    ),
    {"id": "no conversations"},
    manifests.question_record("<image>", video="b.mp4", start=2.5),
    manifests.question_record("<image>", image="a.mp4"),
    *(manifests.question_record("<image>", video=name) for name in clips.BROKEN_VIDEOS),
  ]
  return manifests.write_manifest(folder / "m.json", rows)


def run(capsys, *argv):
  code = command.main(["data", *map(str, argv)])
  out, err = capsys.readouterr()
  return code, out, err


def test_every_bad_record_is_reported(corpus, capsys):
  code, out, _ = run(capsys, "check", corpus)
  assert code == 1
  lines = [line for line in out.splitlines() if line.startswith(f"{corpus}:")]
  broken = [
    n for n in clips.BROKEN_VIDEOS if n != "corrupt.mp4"
  ]  # Its damage shows in its middle only.
  whys = [
    "has no conversations, ",
    "lasts 2.00 s, but the record begins at 2.5 s",
    "is a video, but the record shows it as an image",
  ]
  whys += [clips.BROKEN_VIDEOS[name][1] for name in broken]
  assert len(lines) == len(whys) + 1
  for number, (line, why) in enumerate(zip(lines, whys, strict=False), 7):
    assert line.startswith(f"{corpus}:{number}: ") and why in line
  assert f"{corpus}: 6 good samples, 9 bad records; 10 media, 6 unreadable." in lines
  assert "Samples: 4 with video, 1 with images, 1 with text only" in out
  assert "Records with media but no <image>, which was put in front: 1" in out


def test_the_list_of_bad_records_has_a_line_each(tmp_path, capsys):
  rows = [
    manifests.question_record("<image>", video="no such\nfile.mp4"),
    manifests.question_record("<image>", video="data:video/mp4;base64," + "QUJD" * 50_000),
    manifests.question_record("<image>", video="/" + "/".join(["folder" * 30] * 20) + "/a.mp4"),
    manifests.question_record("<image>", video_path=["a.mp4"]),
    manifests.question_record("<video>\nWhat?"),
  ]
  path = manifests.write_manifest(tmp_path / "a\nb.json", rows)
  code, out, _ = run(capsys, "check", path)
  lines = out.splitlines()
  assert code == 1
  for number, line in enumerate(lines[: len(rows)], 2):
    assert f"/a\\nb.json:{number}: " in line
    assert len(line) < 1200
  assert "no such\\nfile.mp4: does not exist." in lines[0]
  assert lines[len(rows)].endswith("0 good samples, 5 bad records; 2 media, 2 unreadable.")


@pytest.mark.parametrize("options", [(), ("--decode",)])
def test_animations(options, tmp_path, capsys):
  frames = [Image.fromarray(clips.draw_number(number)) for number in range(3)]
  for name in ("a.png", "a.webp"):
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=500)
  rows = [manifests.question_record("<image>", image=name) for name in ("a.png", "a.webp")]
  rows.append(manifests.question_record("<image>", video="a.png"))
  rows.append(manifests.question_record("<image>", video="a.webp"))
  manifest = manifests.write_manifest(tmp_path / "m.json", rows)
  code, out, _ = run(capsys, "check", manifest, *options)
  lines = [line for line in out.splitlines() if line.startswith(f"{tmp_path}")]
  assert code == 1 and len(lines) == 2
  assert "m.json:5: " in lines[0] and "is an animated WebP, which is not read as a" in lines[0]
  assert "3 good samples, 1 bad records; 2 media, 0 unreadable." in lines[1]


def test_shards_are_checked_together(tmp_path, capsys):
  good = manifests.question_record("Why?")
  for number, records in enumerate(([good, {}], [{}, good, good])):
    manifests.write_manifest(tmp_path / f"train-0000{number}-of-00002.json", records)
  code, out, _ = run(capsys, "check", tmp_path / "train-*.json")
  assert code == 1 and "2 manifests: 3 good samples, 2 bad records;" in out
  bad = [line.partition(": ")[0] for line in out.splitlines() if line.startswith(f"{tmp_path}")]
  assert [place.rpartition("/")[2] for place in bad] == [
    "train-00000-of-00002.json:3",
    "train-00001-of-00002.json:2",
  ]
  code, out, _ = run(capsys, "check", *sorted(tmp_path.glob("*.json")), "--json")
  assert [bad["manifest"] for bad in json.loads(out)["bad"]] == json.loads(out)["manifests"]
  (tmp_path / "train-00000-of-00002.json").unlink()
  code, _, err = run(capsys, "check", tmp_path / "train-*.json")
  assert code == 2 and "train-00000-of-00002.json is missing" in err


def test_texts_are_not_kept(tmp_path):
  path = tmp_path / "long.jsonl"
  line = json.dumps(manifests.question_record("Why?", "o" * 100_000)) + "\n"
  path.write_text(line * 600)  # 60 MB.
  tracemalloc.start()
  try:
    result = check.check_manifests([path])
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert result.report.samples == 600
  assert peak < 40 << 20, f"{peak >> 20} MB"


def test_decoding_finds_damage_inside_a_file(corpus, capsys):
  code, out, _ = run(capsys, "check", corpus, "--decode", "--json")
  found = json.loads(out)
  assert code == 1 and (found["samples"], len(found["bad"])) == (5, 10)
  assert any(path.endswith("corrupt.mp4") for path in found["unreadable"])


def test_figures(corpus, monkeypatch):
  lines = io.StringIO()
  monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
  result = check.check_manifests([corpus], decode=True, progress=lines)
  assert "records 1, " in lines.getvalue() and "decoded media 4/4, " in lines.getvalue()
  figures = result.as_dict()["statistics"]
  assert figures["duration"] == pytest.approx(
    {"count": 3, "sum": 10, "min": 1, "mean": 10 / 3, "median": 4, "p95": 4.9, "max": 5}
  )
  assert (figures["fps"]["count"], figures["fps"]["mean"]) == (2, pytest.approx(10))
  assert figures["answer_words"] == pytest.approx(
    {"count": 5, "sum": 15, "min": 1, "mean": 3, "median": 3, "p95": 4.8, "max": 5}
  )
  assert figures["question_words"]["sum"] == 3 + 3 + 0 + 3 + 0


def test_histograms_and_tokens(corpus, capsys, tmp_path):
  tokenizer = tmp_path / "tokenizer.json"
  write_tokenizer(tokenizer)
  out = tmp_path / "out"
  code, text, _ = run(capsys, "check", corpus, "--out", out, "--tokenizer", tokenizer)
  names = {"answer_tokens", "answer_words", "duration", "fps", "question_tokens", "question_words"}
  assert code == 1
  assert {p.name for p in out.iterdir()} == {"check.json", *(f"{name}.png" for name in names)}
  for name in names:
    picture = np.asarray(Image.open(out / f"{name}.png").convert("RGB"))
    assert picture.shape == (480, 720, 3) and picture.std() > 10
    assert f"Wrote {out / name}.png" in text
  figures = json.loads((out / "check.json").read_text())["statistics"]
  assert figures["answer_tokens"]["sum"] == figures["answer_words"]["sum"] + 2  # Two full stops.


def write_tokenizer(path):
  import tokenizers

  made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.save(str(path))


def test_a_good_manifest_exits_with_0(tmp_path, capsys):
  path = manifests.write_manifest(tmp_path / "m.jsonl", [manifests.question_record()])
  code, out, _ = run(capsys, "check", path)
  assert code == 0 and "1 good samples, 0 bad records" in out


def test_root(corpus, tmp_path, capsys):
  moved = manifests.write_manifest(
    tmp_path / "m.json", [manifests.question_record("<image>", video="a.mp4")]
  )
  assert run(capsys, "check", moved)[0] == 1
  assert run(capsys, "check", moved, "--root", pathlib.Path(corpus).parent)[0] == 0


@pytest.mark.parametrize(
  "argv, why",
  [
    (("check", "none.json"), "cannot be read: No such file"),
    (("check", "text.json"), "begins with neither"),
    (("check", "no_record.json"), "no_record.json has no record"),
    (("check", "no_row.parquet"), "no_row.parquet has no record"),
    (("build", "none.json", "--out", "x"), "cannot be read: No such file"),
    (("build", "good.json", "--out", "x", "--proxy", "big"), "is not a rate"),
    (("check", "good.json", "--tokenizer", "none.json"), "none.json"),
  ],
)
def test_unusable_input_is_one_sentence_and_2(argv, why, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("text.json").write_text("hello")
  pathlib.Path("no_record.json").write_text("[]\n")
  rows = pyarrow.table({"video": pyarrow.array([], pyarrow.string())})
  pyarrow.parquet.write_table(rows, "no_row.parquet")
  manifests.write_manifest("good.json", [manifests.question_record()])
  code, out, err = run(capsys, *argv)
  assert (code, out) == (2, "") and why in err and err.count("\n") == 1


def test_build(corpus, tmp_path, capsys):
  out = tmp_path / "built"
  code, text, _ = run(capsys, "build", corpus, "--out", out)
  assert code == 1  # Records were left out.
  assert "Wrote 8 samples and 4 media" in text and f"{corpus}:7: has no conversations, " in text
  code, text, _ = run(capsys, "check", out / "manifest.jsonl")
  assert code == 1 and "6 good samples, 2 bad records; 4 media, 0 unreadable" in text


def test_the_commands_run_without_jax(corpus):
  """Checking and building data must not touch an accelerator."""
  code = (
    "import sys; from filax.cli.main import main; main(['data', 'check', sys.argv[1]]); "
    "assert 'jax' not in sys.modules and 'tensorflow' not in sys.modules"
  )
  subprocess.run(
    [sys.executable, "-c", code, corpus],
    check=True,
    capture_output=True,
    env=os.environ | {"PYTHONPATH": os.getcwd()},
  )
