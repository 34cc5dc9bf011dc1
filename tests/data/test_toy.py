# SPDX-License-Identifier: Apache-2.0
"""The toy corpus holds what it promises: real video, fair answers, no question that frames miss."""

import collections
import hashlib
import itertools
import json
import subprocess
import sys

import av
import numpy as np
import pytest

from data_pipelines.manifest import llava
from data_pipelines.media import probe
from data_pipelines.media.open import GREY
from data_pipelines.synthesis import shape_questions, shapes, toy
from data_pipelines.text import tokenizers
from filax.testing import interrupted


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  return toy.corpus(tmp_path_factory.mktemp("toy") / "corpus", videos=3, held=3, processes=1)


def decoded(path):
  with av.open(str(path)) as container:
    return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_videos_are_h264_of_minutes(corpus):
  paths = sorted((corpus / "videos").glob("*.mp4"))
  assert len(paths) == 7  # One of them shows nothing.
  for path in paths:
    found = probe.probe(str(path))
    assert not found.error
    assert (found.width, found.height, found.fps) == (shapes.SIDE, shapes.SIDE, shapes.FPS)
    assert 119 < found.duration <= 180
    with av.open(str(path)) as container:
      assert container.streams.video[0].codec_context.name == "h264"


def test_pictures_survive_compression(corpus):
  rng = toy.generator(0, "train", 0)
  drawn = shapes.film(rng, shapes.draw_shots(rng, shapes.RECIPES["train"]))
  read = decoded(corpus / "videos/train-000.mp4")
  assert read.shape == drawn.shape
  assert np.abs(read.astype(int) - drawn).mean() < 6  # Of 255.


def test_frames_of_a_scene_are_near_identical():
  rng = toy.generator(0, "held_out", 0)
  shots = shapes.draw_shots(rng, shapes.RECIPES["held_out"])
  frames = shapes.film(rng, shots).astype(int)
  within = [np.abs(np.diff(frames[s.first : s.stop], axis=0)).mean() for s in shots]
  between = [np.abs(frames[s.stop] - frames[s.stop - 1]).mean() for s in shots[:-1]]
  assert np.median(within) < 6  # Of 255; the light of a short scene changes fastest.
  assert 2 * max(within) < min(between)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_scenes_fill_the_video(split):
  for index in range(200):
    shots = shapes.draw_shots(toy.generator(7, split, index), shapes.RECIPES[split])
    assert shots[0].first == 0
    assert all(a.stop == b.first for a, b in itertools.pairwise(shots))
    assert len({s.background for s in shots}) == len(shots)
    assert all(s.colour != s.background for s in shots)
    assert all(3 <= (s.stop - s.first) / shapes.FPS <= 5 for s in shots if s.short)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_even_frames_show_every_long_scene(split):
  """At any phase some triple of a training sample holds at least two frames of each."""
  for index in range(100):
    shots = shapes.draw_shots(toy.generator(3, split, index), shapes.RECIPES[split])
    total = shots[-1].stop
    places = [
      (np.arange(shapes.SLOTS) + u) * total / shapes.SLOTS for u in np.linspace(0, 0.99, 12)
    ]
    for place in (*places, np.linspace(0, total - 1, shapes.SLOTS)):
      for shot in shots:
        inside = (place >= shot.first) & (place < shot.stop)
        assert shot.short or inside.reshape(-1, 3).sum(1).max() >= 2


def test_virtual_videos_show_what_is_asked(corpus):
  """Every scene fills 2 places of some group of 3 frames, at any phase of even sampling."""
  long = {}
  for index in range(3):
    for shot in shapes.draw_shots(toy.generator(0, "train", index), shapes.RECIPES["train"]):
      if not shot.short:
        long[f"videos/train-{index:03d}.mp4", shot.first / shapes.FPS] = shot
  records = [
    record
    for record in json.loads((corpus / "stage2.json").read_text())
    if record["scenes"][0]["media"] != shape_questions.BLANK_SHOT
  ]
  captions = 0
  assert {len(record["scenes"]) for record in records} == set(range(1, 8))
  for record in records:
    shots = [long[scene["media"], scene["t0"]] for scene in record["scenes"]]
    assert len({shot.background for shot in shots}) == len(shots)
    seconds = np.array([scene["t1"] - scene["t0"] for scene in record["scenes"]])
    for shot, length in zip(shots, seconds, strict=True):
      assert length <= (shot.stop - shot.first) / shapes.FPS
    for phase in np.linspace(0, 0.99, 8):
      times = (np.arange(shapes.SLOTS) + phase) * seconds.sum() / shapes.SLOTS
      scene = np.searchsorted(np.cumsum(seconds), times, side="right").reshape(-1, 3)
      for n in range(len(shots)):
        assert (scene == n).sum(1).max() >= 2
    said = [turn["value"].removeprefix("<image>\n") for turn in record["conversations"]]
    if said[0] == shape_questions.DESCRIBE:
      captions += 1
      assert said[1] == ", ".join(shot.caption for shot in shots)
      continue
    answers = {row[1]: row[2] for row in shape_questions.questions(shots)}
    pairs = list(zip(said[::2], said[1::2], strict=True))
    assert 1 <= len(pairs) <= 7 and all(answers[q] == a for q, a in pairs)
  assert 0.05 <= captions / len(records) <= 0.4


def test_a_few_virtual_videos_show_nothing(corpus):
  records = json.loads((corpus / "stage2.json").read_text())
  seen = [{scene["media"] for scene in record["scenes"]} for record in records]
  assert sum(shape_questions.BLANK_SHOT in media for media in seen) == -(-len(records) // toy.BLANK)
  assert all(
    media == {shape_questions.BLANK_SHOT} for media in seen if shape_questions.BLANK_SHOT in media
  )
  frames = decoded(corpus / shape_questions.BLANK_SHOT)
  assert len(frames) / shapes.FPS > max(
    scene["t1"]
    for record, media in zip(records, seen, strict=True)
    for scene in record["scenes"]
    if shape_questions.BLANK_SHOT in media
  )
  assert np.abs(frames.astype(int) - GREY).max() <= 3


def test_clips_lie_inside_one_scene(corpus):
  shots = {
    f"train-{i:03d}": shapes.draw_shots(toy.generator(0, "train", i), shapes.RECIPES["train"])
    for i in range(3)
  }
  for record in json.loads((corpus / "stage1.json").read_text()):
    scene = next(
      s
      for s in shots[record["id"].partition("@")[0]]
      if s.caption == record["conversations"][1]["value"]
    )
    assert scene.first <= record["start"] * shapes.FPS
    assert record["end"] * shapes.FPS <= scene.stop
    assert record["end"] - record["start"] == 3 / shapes.FPS


def test_held_out_questions(corpus):
  records = json.loads((corpus / "held_out.json").read_text())
  kinds = collections.Counter(record["kind"].split("/")[1] for record in records)
  assert kinds["short"] >= kinds["long"] > 0
  assert len({record["id"] for record in records}) == len(records)
  assert {record["video"] for record in records} == {
    f"videos/held_out-{i:03d}.mp4" for i in range(3)
  }
  for record in records:
    assert set(record) == {"id", "video", "kind", "conversations"}
    assert len(record["conversations"]) == 2


def test_answers_are_drawn_evenly():
  counts = collections.Counter()
  for index in range(400):
    for shot in shapes.draw_shots(toy.generator(5, "held_out", index), shapes.RECIPES["held_out"]):
      counts[shot.shape] += 1
      counts[shot.colour] += 1
  for words in (shapes.SHAPES, shapes.COLOURS):
    shares = np.array([counts[word] for word in words])
    assert (np.abs(shares / shares.mean() - 1) < 0.2).all()


def test_manifests_are_read_without_complaint(corpus):
  for name in ("stage1", "stage2", "held_out"):
    report = llava.ManifestReport()
    samples = list(llava.read_manifest(corpus / f"{name}.json", report=report))
    assert samples
    assert not report.bad


def test_words_of_the_task_are_single_pieces(corpus):
  tokenizer = tokenizers.load_tokenizer(corpus / "tokenizer.model")
  assert tokenizer.vocab_size <= 512
  for word in (*shapes.SHAPES, *shapes.COLOURS):
    assert len(tokenizer.encode(f"on {word}")) == 2
  assert len(tokenizer.encode("assistant\n")) == 2


def test_corpus_is_determined_by_its_seed(corpus, tmp_path):
  again = toy.corpus(tmp_path / "again", videos=3, held=3, processes=2)
  other = toy.corpus(tmp_path / "other", videos=3, held=3, seed=1, processes=1)
  for path in sorted(corpus.rglob("*")):
    if path.is_file():
      name = path.relative_to(corpus)
      assert path.read_bytes() == (again / name).read_bytes()
  assert (corpus / "stage2.json").read_bytes() != (other / "stage2.json").read_bytes()


def test_splits_share_no_video():
  rngs = [toy.generator(seed, split, 0) for seed in (0, 1) for split in toy.SPLITS]
  assert len({rng.integers(1 << 60) for rng in rngs}) == len(rngs)


def test_stopped_corpus_is_finished(corpus, tmp_path):
  folder = toy.corpus(tmp_path / "part", videos=3, held=3, processes=1)
  state = json.loads((folder / "corpus.json").read_text())
  (folder / "corpus.json").write_text(json.dumps(state | dict(complete=False)))
  kept, lost = folder / "videos/train-000.mp4", folder / "videos/train-001.mp4"
  before = kept.stat().st_mtime_ns
  lost.unlink()
  (folder / "stage2.json").unlink()
  toy.corpus(folder, videos=3, held=3, processes=1)
  assert kept.stat().st_mtime_ns == before
  assert lost.read_bytes() == (corpus / "videos/train-001.mp4").read_bytes()
  assert (folder / "stage2.json").read_bytes() == (corpus / "stage2.json").read_bytes()


def test_a_killed_writer_leaves_nothing_for_long(tmp_path):
  for name in ("manifest.json", "videos/tiny-000.mp4"):
    path = str(tmp_path / name)
    interrupted.kill_writer(f"write_atomically({path!r})", "out.write(b'half')")
  assert len(list(tmp_path.rglob("*.tmp"))) == 2
  toy.tiny_corpus(tmp_path)
  assert not list(tmp_path.rglob("*.tmp"))
  assert len(list((tmp_path / "videos").iterdir())) == 6


def test_complete_corpus_is_left_alone(corpus):
  before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
  toy.corpus(corpus, videos=3, held=3)
  assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_another_corpus_is_not_overwritten(corpus):
  with pytest.raises(ValueError, match=r"holds another corpus .* Delete the folder"):
    toy.corpus(corpus, videos=4, held=3)


def test_command_line(tmp_path):
  out = tmp_path / "corpus"
  command = [sys.executable, "-m", "data_pipelines.synthesis.toy", "--out", out]
  done = subprocess.run(
    [*command, "--videos", "1", "--held", "1"], capture_output=True, text=True, check=True
  )
  assert "1 videos for training, 1 held out" in done.stdout
  assert (out / "tokenizer.model").exists()


def test_tiny_corpus(tmp_path):
  folder = toy.tiny_corpus(tmp_path)
  samples = list(llava.read_manifest(folder / "manifest.json"))
  assert len(list((folder / "videos").glob("*.mp4"))) == 6
  assert max(len(sample.turns) for sample in samples) > 2
  assert tokenizers.load_tokenizer(folder).vocab_size <= 512


def test_tiny_records_keep_their_bytes(tmp_path):
  folder = toy.tiny_corpus(tmp_path)
  content = (folder / "manifest.json").read_bytes()
  assert len(json.loads(content)) == 6
  assert hashlib.sha256(content).hexdigest() == (
    "32d76468a887b8c458de3ee5fc3a4fede5eb6e9e14458faccc2f85365e5f9cde"
  )
