# SPDX-License-Identifier: Apache-2.0
"""Every suite by every protocol, from invented files to result.json, on a tiny model."""

import json
import pathlib

import pytest

import filax
from filax.evals import registry
from filax.evals.kit import Source
from filax.testing import benchmark_files as files
from filax.testing import benchmark_files_more as more
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

WRITERS = dict(
  videomme=lambda folder: files.write_videomme(folder, [files.videomme_row()]),
  mvbench=lambda folder: files.write_mvbench(folder, dict(action_antonym=[files.mvbench_row()])),
  longvideobench=lambda folder: write_longvideobench(folder),
  mlvu=lambda folder: files.write_json(folder / "json/1_plotQA.json", [files.mlvu_row()]),
  egoschema=more.write_egoschema,
  egoschema_full=more.write_egoschema,
  nextqa=more.write_nextqa,
  perceptiontest=more.write_perceptiontest,
  lvbench=more.write_lvbench,
  tempcompass=more.write_tempcompass,
)
WRITERS["videomme_subtitles"] = WRITERS["videomme"]
CASES = [
  (name, protocol) for name in WRITERS for protocol in registry.find_benchmark(name).protocols
]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return filax.load(tiny_checkpoint.write_checkpoint(folder, **{"infer.sampling.frames": 12}))


def write_longvideobench(folder):
  row = files.longvideobench_row()
  files.write_json(folder / "lvb_val.json", [row])
  subtitles = files.longvideobench_subtitles()
  files.write_json(folder / "subtitles" / row["subtitle_path"], subtitles)


def write_media(name, folder):
  """A short clip wherever the questions look for one."""
  source = Source(str(folder), allow_missing=True)
  for example in registry.find_benchmark(name).read_examples(source):
    for timeline in example.media:
      for scene in timeline:
        if not pathlib.Path(scene.media).exists():
          clips.write_video(scene.media, 12)


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_a_suite_is_asked_scored_and_written(session, tmp_path, name, protocol):
  folder = tmp_path / name
  folder.mkdir()
  WRITERS[name](folder)
  write_media(name, folder)
  report = filax.evaluate(
    session,
    name,
    data=tmp_path,
    protocol=protocol,
    allow_missing=True,
    out=tmp_path / "out",
    batch=2,
    max_new_tokens=4,
    progress=False,
  )
  assert report["questions"] == report["total"] > 0, report["bad_questions"]
  assert report["scores"].keys() >= {report["metric"]} or report["unscored"] == report["total"]
  assert not report["comparable"] and report["reasons"]
  written = json.loads((tmp_path / "out/result.json").read_text())
  assert written["protocol"] == protocol
