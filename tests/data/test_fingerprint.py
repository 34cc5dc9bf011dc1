# SPDX-License-Identifier: Apache-2.0
"""The fingerprints of plans, as runs of earlier versions have recorded them."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.packing.fingerprint import digest_facts
from filax.spec import dropout_stages
from filax.testing import clips, corpora, manifests

STAGES = dropout_stages.parse_stages(((1, "uniform", 0.75), (2, "attention", 0.25)), 3)
DROPS = dataclasses.replace(corpora.LAYOUT, stages=STAGES)
RANDOM = dict(name="uniform", frames=6, phase="random")
TIMES = dict(time_prompt="llava", sampling=RANDOM, rows=((12, 4, 400, 4),), packing=False)
TWO_SHAPES = ((6, 0, 224, 2), (12, 4, 384, 4))

# What was recorded before the facts were listed by name: (settings, fingerprint of the plan).
RECORDED = {
  "default": (dict(), "5f4985d66b94170c0f39c5deb410e48ed116d2057ad482069b81cb61d165340f"),
  "seed and batch": (
    dict(seed=3, batch=4),
    "1f7231ec1a4565db87d4a500b7f7dde9e85ca6df579e8800f714c052c36c93f7",
  ),
  "times drawn anew": (TIMES, "6bf8d256548b3431a91c1d1419907c0462e883ac3a10e068b9c6dac91e85a213"),
  "grid": (
    dict(layout=dataclasses.replace(corpora.LAYOUT, newline="grid"), rows=TWO_SHAPES),
    "9c20d00cd07c3b4db88cbf8c5fcb8f1590084330daa4deba486413d0348506ca",
  ),
  "tiles": (
    dict(images=dict(mode="anyres", tiles=3), rows=((12, 8, 400, 4),)),
    "801ff17f99421f6920c28d1691d403a6512a39ea8f28d6b4f4aa8e369f23cc3b",
  ),
  "dropout": (
    dict(layout=DROPS, rows=TWO_SHAPES),
    "a9589e425dbf212070de767d9596f5f3b7f04dc7bd7b02e6f66ae18f17144021",
  ),
  "dropout, answers": (
    dict(layout=dataclasses.replace(DROPS, queries="answers"), rows=((12, 4, 384, 4),)),
    "0e1b6f7141b7bb6f42fd33f250aaed25bec02f2d1f29839f782b99b6a3b8459e",
  ),
}
# The file in which the demand of epoch 0 is kept, where media are named relative to the manifest.
RECORDED_SIZES = {
  "default": "sizes-41eb03830f43473902a943fdbaafb4ef-0.npy",
  "times drawn anew": "sizes-28a6921bf7795d6564252fabc14d784b-0.npy",
  "dropout": "sizes-aa1c2ae1894562cb413796fbabe1cb7a-0.npy",
}
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("?", "system", "user", "assistant", "What", "is", "shown", "A", "square", ".")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Media, a manifest and a tokenizer whose bytes no library decides."""
  folder = tmp_path_factory.mktemp("corpus")
  clips.write_video(folder / "a.mp4", 40, 10)
  clips.write_picture(folder / "wide.png", 7, 96, 40)
  records = [
    manifests.question_record("<image>\nWhat is shown?", "A square.", video="a.mp4"),
    manifests.question_record(
      "<image>\nWhat is shown?", "A square.", video="a.mp4", start=1.0, end=3.0
    ),
    manifests.question_record("<image>\nWhat?", "A wide one.", image="wide.png"),
    manifests.question_record("What is a square?", "A square is a square."),
  ]
  manifests.write_manifest(folder / "manifest.json", records)
  (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
  return folder


def tokenizer() -> dict:
  """A tokenizer.json of whole words, with Qwen's control tokens."""
  added = [
    dict(
      id=len(WORDS) + number,
      content=name,
      single_word=False,
      lstrip=False,
      rstrip=False,
      normalized=False,
      special=True,
    )
    for number, name in enumerate(CONTROLS)
  ]
  vocabulary = {word: number for number, word in enumerate(WORDS)}
  return dict(
    version="1.0",
    truncation=None,
    padding=None,
    added_tokens=added,
    normalizer=None,
    pre_tokenizer=dict(type="Whitespace"),
    post_processor=None,
    decoder=None,
    model=dict(type="WordLevel", vocab=vocabulary, unk_token="?"),
  )


@pytest.mark.parametrize("name", RECORDED)
def test_the_fingerprint_is_the_recorded_one(folder, name):
  settings, recorded = RECORDED[name]
  assert corpora.open_pipeline(folder, **settings).fingerprint == recorded


@pytest.mark.parametrize("name", RECORDED_SIZES)
def test_kept_sizes_have_the_recorded_name(folder, tmp_path, monkeypatch, name):
  settings, _ = RECORDED[name]
  monkeypatch.chdir(folder)  # The name depends on the paths of media.
  corpora.open_pipeline(folder, train=(("manifest.json", "all"),), cache=str(tmp_path), **settings)
  assert [path.name for path in tmp_path.glob("sizes-*-0.npy")] == [RECORDED_SIZES[name]]


def test_a_pattern_has_the_plan_of_its_files(folder):
  records = json.loads((folder / "manifest.json").read_text())
  paths = [folder / f"part-{number}.json" for number in (0, 1)]
  manifests.write_manifest(paths[0], records[:1])
  manifests.write_manifest(paths[1], records[1:])
  listed = tuple((str(path), "all") for path in paths)
  pattern = ((str(folder / "part-*.json"), "all"),)
  first, second = (corpora.open_pipeline(folder, train=train) for train in (listed, pattern))
  assert first.fingerprint == second.fingerprint
  assert first.ingredients == second.ingredients


def test_the_digest_sees_every_fact():
  base = dict(seed=0, sizes=np.arange(6).reshape(2, 3), tokenizer=b"abc", rows=((1, 2),))
  changes = (
    {},
    dict(seed=1),
    dict(sizes=np.arange(6).reshape(3, 2)),
    dict(tokenizer=b"abd"),
    dict(rows=((1, 3),)),
    dict(sizes=np.arange(6.0).reshape(2, 3)),
  )
  digests = [digest_facts(**base | change) for change in changes]
  assert len(set(digests)) == len(changes)
  assert digests[0] == digest_facts(**base)
