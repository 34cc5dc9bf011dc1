# SPDX-License-Identifier: Apache-2.0
"""The examples of the README of formats are read as it says."""

import io
import os
import pathlib
import re
import tarfile

import pytest

from data_pipelines import manifest as manifest_package
from data_pipelines.packing.corpus import read_corpus
from data_pipelines.sample import Scene
from data_pipelines.tools import check
from filax.testing import clips, corpora

README = pathlib.Path(manifest_package.__file__).with_name("README.md").read_text()
KINDS = {"messages": 5, "questions": 4, "qwen": 3, "grounding": 3, "parquet": 2, "tar": 3}
# Examples of further files: their suffixes, and their records.
FILES = {
  "keyed": (".json", 1),
  "database": (".json", 1),
  "highlights": (".jsonl", 1),
  "sta": (".txt", 2),
  "nextqa": (".csv", 1),
  "films": (".json", 1),
  "captions": (".jsonl", 2),
}
KINDS |= {name: count for name, (_, count) in FILES.items()}


def block(name):
  return re.search(rf"```\w+ {name}\n(.*?)```", README, re.DOTALL)[1]


def write_tar(folder):
  with tarfile.open(folder / "tar.tar", "w") as tar:
    for line in block("tar").splitlines():
      name, content = line.split(maxsplit=1)
      data = content.encode()
      if (folder / content).is_file():
        data = (folder / content).read_bytes()
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("formats")
  clips.write_video(folder / "videos" / "match.mp4", 20)
  for shown, name in ((200, "referee"), (201, "goal")):
    clips.write_picture(folder / "photos" / f"{name}.jpg", shown)
  for name in ("messages", "questions", "qwen", "grounding"):
    (folder / f"{name}.json").write_text(block(name))
  for name, (suffix, _) in FILES.items():
    (folder / f"{name}{suffix}").write_text(block(name))
  write_tar(folder)
  before = os.getcwd()
  os.chdir(folder)
  try:
    exec(block("parquet"), {})
  finally:
    os.chdir(before)
  (folder / "train.parquet").rename(folder / "parquet.parquet")
  return folder


def path(folder, name):
  (file,) = folder.glob(f"{name}.*")
  return str(file)


def samples(folder, name):
  train = ((path(folder, name), "all"),)
  return list(read_corpus(corpora.data_config(folder, train=train), 0, "").samples)


@pytest.mark.parametrize("name", KINDS)
def test_the_example_is_good(name, folder):
  result = check.check_manifests([path(folder, name)], decode=True)
  assert (result.report.bad, result.report.samples) == ([], KINDS[name])


def test_one_mixture_holds_all_formats(folder):
  train = tuple((path(folder, name), "all") for name in KINDS)
  corpus = read_corpus(corpora.data_config(folder, train=train), 0, "")
  assert corpus.report.bad == [] and len(corpus.samples) == sum(KINDS.values())
  assert [sample.origin for sample in corpus.samples][-1] == f"{path(folder, 'captions')}:2"


def test_messages(folder):
  goal, parts, query, caption, options = samples(folder, "messages")
  match = Scene(f"{folder}/videos/match.mp4")
  assert goal.media == ((match,), (Scene(f"{folder}/photos/referee.jpg", "image"),))
  assert goal.turns[1].parts == (0, "Is this man ", 1, " in the video?")
  assert parts.turns[0].parts == (0, "Who is this?")
  assert [turn.text for turn in query.turns] == [
    "Answer briefly.",
    "Hello.",
    "Hello!",
    "Who wins?",
    "The team in red.",
  ]
  assert caption.media == ((Scene(match.media, t0=1.0, t1=2.0),),)
  assert caption.turns[0].parts == (0, "\nDescribe the video.")
  assert options.turns[0].text.startswith("\nWho wins?\nA. Red\nB. Blue\nAnswer with the option")
  assert options.turns[1].text == "A"


def test_questions(folder):
  two, caption, reasoned, plain = samples(folder, "questions")
  assert [turn.text for turn in two.turns] == [
    "\nWatch the players.\nWho wins?",
    "The red team.",
    "Who shoots?",
    "A man with a beard.",
  ]
  assert caption.turns[0].parts == (0, "\nDescribe the picture briefly.")
  assert caption.turns[1].text == "A referee."
  assert reasoned.media == plain.media == ((Scene(f"{folder}/./videos/match.mp4"),),)
  assert reasoned.turns[0].text == "\nWho wins?\nA. Red\nB. Blue"
  assert reasoned.turns[1].text == "<think>The red team cheers.</think>\n<answer>A</answer>"
  assert plain.turns[0].text.startswith("\nWho wins?\nA. Red\nB. Blue\nAnswer with the option")
  assert plain.turns[1].text == "A"


def test_qwen(folder):
  part, two, frames = samples(folder, "qwen")
  match = f"{folder}/videos/match.mp4"
  assert part.media == ((Scene(match, t0=0.5, t1=1.5),),)
  assert two.media == ((Scene(match, t0=1.0),), (Scene(match),))
  assert two.turns[0].parts == (0, "And here: ", 1, "What changes?")
  assert [(scene.kind, scene.t1, scene.at) for scene in frames.media[0]] == [
    ("still", 0.25, 0.0),
    ("still", 0.25, 0.25),
  ]


def test_grounding(folder):
  one, events, dense = samples(folder, "grounding")
  assert one.turns[0].text.endswith(
    "When does this happen in the video: a player shoots. Give the start and the end in seconds."
  )
  assert one.turns[1].text == "The event happens in the 0.5 - 1.2 seconds."
  assert events.turns[1].text == "The event happens in the 0.2 - 0.6 and the 1.5 - 2.0 seconds."
  assert [len(turn.parts) for turn in events.turns] == [2, 1, 1, 1]
  assert dense.turns[1].text == "The event happens in the 0.0 - 0.5 seconds."


def test_files_of_public_data_sets(folder):
  match = f"{folder}/videos/match.mp4"
  for name in FILES:
    for sample in samples(folder, name):
      assert [scene.media for timeline in sample.media for scene in timeline] == [match]
  (keyed,) = samples(folder, "keyed")
  assert keyed.turns[3].text == "The event happens in the 0.5 - 1.5 seconds."
  (choice,) = samples(folder, "nextqa")
  assert "\nB. the red team\n" in choice.turns[0].text and choice.turns[1].text == "B"
  part, whole = samples(folder, "captions")
  assert part.media == ((Scene(match, t0=0.5, t1=1.5),),)
  assert whole.turns[1].text == "Two teams play."


def test_media_lie_in_the_tar_and_in_the_parquet_file(folder):
  names = [sample.media[0][0].media for sample in samples(folder, "tar")]
  members = ("000000.mp4", "000001.mp4", "000002.jpg")
  assert names == [f"{path(folder, 'tar')}#{member}" for member in members]
  inside, outside = [sample.media[0][0].media for sample in samples(folder, "parquet")]
  assert inside == f"{path(folder, 'parquet')}#0/video"
  assert outside == f"{folder}/videos/match.mp4"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["messages", "tar"])
def test_an_array_record_data_set_is_built_of_other_formats(name, folder, tmp_path):
  from data_pipelines.tools import build_array_record

  built = build_array_record.build_data_set(path(folder, name), tmp_path / "out")
  assert (built.report.bad, built.samples) == ([], KINDS[name])
  result = check.check_manifests([tmp_path / "out" / "manifest.jsonl"])
  assert result.report.bad == [] and result.media == built.media
