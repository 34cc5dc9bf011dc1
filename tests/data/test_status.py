# SPDX-License-Identifier: Apache-2.0
"""The published mixtures, `filax data status`, and training on the part that is present."""

import importlib
import json
import pathlib

import pytest

from data_pipelines.media.index import MediaIndex
from data_pipelines.packing.corpus import read_corpus
from data_pipelines.tools.status import ExpectedManifest, mixture_status
from filax import settings
from filax.cli import main as command
from filax.configs.mixtures import fila_stage4, parts, vcf_stage3, vcf_stage4
from filax.testing import clips, corpora, manifests

STAGES = {  # Parts of each published list.
  "fila_stage1": 1,
  "fila_stage2": 8,
  "fila_stage3": 90,
  "fila_stage4": 38,
  "vcf_stage1": 2,
  "vcf_stage2": 12,
  "vcf_stage3": 104,
  "vcf_stage4": 106,
}


def published(stage):
  return importlib.import_module(f"filax.configs.mixtures.{stage}").PARTS


def config(stage, arg):
  return importlib.import_module(f"filax.configs.{stage}").get_config(arg)


def place(root, part, records=4, folder=None):
  """Writes a manifest for a part."""
  path = pathlib.Path(root, folder or pathlib.PurePath(part.file).parent)
  path.mkdir(parents=True, exist_ok=True)
  rows = [manifests.question_record("Text?", "Yes.")] * records
  return manifests.write_manifest(path / pathlib.PurePath(part.file).name, rows)


@pytest.mark.parametrize(("stage", "count"), STAGES.items())
def test_a_mixture_is_complete_and_sound(stage, count):
  mixture = published(stage)
  assert len(mixture) == len({part.file for part in mixture}) == count
  for part in mixture:
    assert all(part) and all(part.source)  # "unknown" rather than nothing.
    assert part.published_count or part.samples == parts.UNKNOWN
    settings.check_settings(dict(data=dict(train=((part.file, part.strategy),))))


def test_strategies_of_stage_3_are_those_released():
  counts = {}
  for part in vcf_stage3.PARTS:
    counts[part.strategy] = counts.get(part.strategy, 0) + 1
  assert counts == {"all": 88, "first:25%": 13, "first:10%": 2, "first:20%": 1}


def test_stage_4_takes_a_quarter_and_rendered_text():
  counts = {}
  for part in vcf_stage4.PARTS:
    counts[part.strategy] = counts.get(part.strategy, 0) + 1
  assert counts == {"first:25%": 101, "first:10%": 4, "first:20%": 1}


def test_captions_of_llava_video_add_up():
  captions = [part for part in fila_stage4.PARTS if "_cap_" in part.file]
  assert sum(part.published_count for part in captions) == 178_510


@pytest.mark.parametrize(
  ("samples", "count"), [("6901", 6901), ("40k", 40_000), ("2m", 2_000_000), ("unknown", None)]
)
def test_published_numbers(samples, count):
  assert vcf_stage3.PARTS[0]._replace(samples=samples).published_count == count


@pytest.mark.parametrize("stage", STAGES)
def test_a_config_takes_all_parts_or_those_present(stage, tmp_path):
  first = published(stage)[0]
  assert len(config(stage, f"mixture=full,root={tmp_path}").data.train) == STAGES[stage]
  with pytest.raises(ValueError, match="parts of the mixture lies below"):
    config(stage, f"mixture=present,root={tmp_path}")
  path = place(tmp_path, first)
  c = config(stage, f"mixture=present,root={tmp_path}")
  assert c.data.train == ((path, first.strategy),)


def test_a_part_may_lie_beside_its_media(tmp_path):
  part = vcf_stage3.PARTS[-1]
  path = place(tmp_path, part, folder="longvid")
  assert parts.locate(part, str(tmp_path)) == path


def test_an_unknown_word_names_the_choice():
  with pytest.raises(ValueError, match="Set it to full or present"):
    config("vcf_stage3", "mixture=some")


def test_a_run_is_refused_with_a_list_of_what_is_missing(tmp_path):
  there = place(tmp_path, vcf_stage3.PARTS[0])
  data = corpora.data_config(tmp_path, train=((there, "all"), ("a.json", "all"), ("b.json", "all")))
  with pytest.raises(ValueError, match=r"2 of 3 manifests .* missing: a.json, b.json\. .*present"):
    read_corpus(data, 0, "")


def test_the_rest_is_trained_on(tmp_path):
  for part in vcf_stage3.PARTS[:3]:
    place(tmp_path, part)
  c = config("vcf_stage3", f"mixture=present,root={tmp_path}")
  assert len(read_corpus(c.data, 0, "").samples) == 12


def run(capsys, *argv):
  code = command.main(["data", "status", *map(str, argv)])
  return code, *capsys.readouterr()


def test_status_says_what_is_there_and_where_the_rest_is(tmp_path, capsys):
  place(tmp_path, published("vcf_stage4")[2], records=10)
  code, out, _ = run(capsys, "--config", "configs/vcf_stage4.py", "--root", tmp_path)
  assert code == 1
  assert "1 of 106 manifests present, 3 samples" in out  # first:25% of 10.
  assert "LongVid, licence card: Apache-2.0" in out
  assert "media: https://huggingface.co/datasets/lmms-lab/LLaVA-Video-178K" in out
  assert f"--config configs/vcf_stage4.py:mixture=present,root={tmp_path}" in out


def test_status_as_json(tmp_path, capsys):
  for part in published("vcf_stage1"):
    place(tmp_path, part)
  config_name = f"configs/vcf_stage1.py:mixture=present,root={tmp_path}"
  code, out, _ = run(capsys, "--config", config_name, "--json")
  (status,) = json.loads(out)
  assert code == 0 and (status["present"], status["missing"], status["samples"]) == (2, 0, 8)
  assert status["manifests"][0]["expected"]["published"] == "481k"


def test_a_config_of_ones_own_has_its_manifests_alone(tmp_path, capsys):
  mine = tmp_path / "mine.json"
  manifests.write_manifest(mine, [manifests.question_record("Text?")])
  train = f"--config.data.train=(('{mine}','all'),('{tmp_path}/no.json','all'))"
  code, out, _ = run(capsys, "--config", "configs/fila_toy.py", train)
  assert code == 1 and "1 of 2 manifests present, 1 samples" in out and "Published" not in out


def test_the_files_of_a_pattern_are_counted(tmp_path, capsys):
  for number in (0, 1):
    manifests.write_manifest(tmp_path / f"part-{number}.json", [manifests.question_record("Text?")])
  train = f"--config.data.train=(('{tmp_path}/part-*.json','all'),('{tmp_path}/no-*.json','all'))"
  code, out, _ = run(capsys, "--config", "configs/fila_toy.py", train)
  assert code == 1 and "2 of 3 manifests present, 2 samples" in out and "no-*.json" in out
  for number in (0, 2):
    path = tmp_path / f"t-{number}-of-3.json"
    manifests.write_manifest(path, [manifests.question_record("Text?")])
  train = f"--config.data.train=(('{tmp_path}/t-*.json','all'),)"
  code, out, _ = run(capsys, "--config", "configs/fila_toy.py", train)
  assert code == 1 and "2 of 3 manifests present, 2 samples" in out and "t-1-of-3.json" in out


@pytest.fixture
def films(tmp_path):
  clips.write_video(tmp_path / "a.mp4", 40, 10)  # 4 seconds.
  records = [manifests.question_record("<image>", video="a.mp4")] * 3
  records.append(manifests.question_record("<image>", video="gone.mp4"))
  records.append(manifests.question_record("<image>", video=""))
  return manifests.write_manifest(tmp_path / "m.json", records)


def test_hours_are_looked_up_and_nothing_is_opened(films, tmp_path):
  index = MediaIndex(tmp_path / "index.sqlite", progress=None)
  (status,) = mixture_status("m", [ExpectedManifest(films)], index=index).manifests
  assert (status.media.hours, status.media.known, status.media.media) == (0, 0, 2)
  index.probes([str(tmp_path / "a.mp4")])
  (status,) = mixture_status("m", [ExpectedManifest(films)], index=index).manifests
  assert status.media.hours == pytest.approx(4 / 3600) and status.media.known == 1


def test_probing_finds_hours_and_unreadable_media(films):
  index = MediaIndex("", progress=None)
  (status,) = mixture_status("m", [ExpectedManifest(films)], index=index, probe=True).manifests
  assert status.media.hours == pytest.approx(4 / 3600) and status.media.unreadable == 1
  lines = list(mixture_status("m", [ExpectedManifest(films)], index=index, probe=True).lines())
  assert "5 of 5 records" in lines[1] and lines[1].endswith("; 1 bad records in the file")


def test_a_damaged_manifest_is_missing_with_its_reason(tmp_path):
  path = tmp_path / "m.json"
  path.write_text("hello")
  status = mixture_status("m", [ExpectedManifest(str(path))])
  assert len(status.missing) == 1 and "begins with neither" in "\n".join(status.lines())
