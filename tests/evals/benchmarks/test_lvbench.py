# SPDX-License-Identifier: Apache-2.0
"""LVBench: the authors' file, VideoChat-Flash's copy, lmms-eval's copy."""

import json

import benchmark_reading as reading
import pytest

from filax.evals.benchmarks import lvbench
from filax.evals.kit import BadAnnotation, MissingAnnotation
from filax.testing import benchmark_files_more as files

QUESTION = "What colour is the boat in the third scene?"
OPTIONS = "(A) Red\n(B) Green\n(C) White\n(D) Black"
PROMPTS = {
  "lmms-eval": f"{QUESTION}\n{OPTIONS}\nAnswer the question with the option letter",
  "vcf": (
    f"{QUESTION}\nA. (A) Red\nB. (B) Green\nC. (C) White\nD. (D) Black\n"
    "Answer with the option's letter from the given choices directly."
  ),
  "official": f"{QUESTION}\n{OPTIONS}",
}


def write_copy_of_vcf(folder):
  files.write_json(folder / "json/lvbench_clean.json", [files.lvbench_row("00000003")])
  return str(folder)


def write_copy_of_lmms(folder):
  row = dict(video_path="boats.mp4", question=QUESTION, answer="D")
  row |= dict(options=["Red", "Green", "White", "Black"])
  files.write_parquet(folder / "data/train-00000-of-00001.parquet", [row])
  return str(folder)


WRITERS = (files.write_lvbench, write_copy_of_vcf, write_copy_of_lmms)


@pytest.mark.parametrize("protocol", PROMPTS)
@pytest.mark.parametrize("write", WRITERS)
def test_every_copy_gives_the_published_prompts(tmp_path, write, protocol):
  example = reading.examples_of("lvbench", write(tmp_path))[0]
  assert example.answer == "D"
  assert reading.user_text("lvbench", protocol, example) == PROMPTS[protocol]


def test_a_question_may_have_two_types(tmp_path):
  examples = reading.examples_of("lvbench", files.write_lvbench(tmp_path))
  assert examples[0].fields["question_type"] == ["entity recognition", "temporal grounding"]
  assert [example.id for example in examples] == ["0", "1"]
  assert examples[1].fields["type"] == "sport"


def test_options_without_column_stay_in_the_question(tmp_path):
  text = f"{QUESTION}\n(A) Red\n(B)Green"
  row = dict(video_path="boats.mp4", question=text, answer="B")
  files.write_parquet(tmp_path / "data/train-00000-of-00001.parquet", [row])
  (example,) = reading.examples_of("lvbench", tmp_path)
  expected = f"{text}\nAnswer the question with the option letter"
  assert reading.user_text("lvbench", "lmms-eval", example) == expected
  assert reading.score_of("lvbench", "lmms-eval", example, "B").value == 1


def test_videos_of_the_authors_are_named_by_their_key(tmp_path):
  folder = files.write_lvbench(tmp_path)
  examples = reading.examples_of("lvbench", folder)
  assert reading.paths(examples[:1], tmp_path) == ["videos/Ab_-3456789.mp4"]


def test_videos_of_vcf_are_folders_with_a_picture_a_second(tmp_path):
  folder = write_copy_of_vcf(tmp_path)
  (example,) = reading.examples_of("lvbench", folder)
  assert reading.paths([example], tmp_path) == ["videos/00000003@1fps"]
  (tmp_path / "all_videos/00000003").mkdir(parents=True)
  (example,) = reading.examples_of("lvbench", folder)
  assert reading.paths([example], tmp_path) == ["all_videos/00000003@1fps"]


def test_a_video_file_will_do_for_vcf(tmp_path):
  folder = write_copy_of_vcf(tmp_path)
  (tmp_path / "videos").mkdir()
  (tmp_path / "videos/00000003.mp4").touch()
  (example,) = reading.examples_of("lvbench", folder)
  assert reading.paths([example], tmp_path) == ["videos/00000003.mp4"]


def test_the_six_parts_of_vcf_are_joined(tmp_path):
  for number, part in enumerate(lvbench.PARTS):
    row = files.lvbench_row(f"0000000{number}", type=part)
    files.write_json(tmp_path / f"json/lvbench_clean_{part}.json", [row])
  examples = reading.examples_of("lvbench", tmp_path)
  assert [example.fields["type"] for example in examples] == list(lvbench.PARTS)


def test_a_missing_part_is_named(tmp_path):
  files.write_json(tmp_path / "lvbench_clean_live.json", [files.lvbench_row("00000001")])
  with pytest.raises(MissingAnnotation, match=r"lvbench_clean_cartoon\.json is missing"):
    reading.examples_of("lvbench", tmp_path)
  examples, source = reading.examples_and_source("lvbench", tmp_path, allow_missing=True)
  assert len(examples) == 1 and len(source.missing) == 5


def test_every_extractor_is_its_protocols(tmp_path):
  example = reading.examples_of("lvbench", files.write_lvbench(tmp_path))[0]

  def letters(text):
    return [reading.score_of("lvbench", name, example, text).answer for name in PROMPTS]

  assert letters("Answer: D") == ["D", "D", "A"]
  assert letters("d") == [None, "D", "d"]


def test_the_copy_of_vcf_has_its_own_number_of_questions():
  protocols = lvbench.BENCHMARKS["lvbench"].protocols
  assert lvbench.BENCHMARKS["lvbench"].questions == 1549
  assert [protocols[name].questions for name in PROMPTS] == [None, 1519, None]


def test_the_submission_has_the_shares_of_the_capabilities():
  rows = [
    dict(id="0", score=1.0, question_type=["reasoning", "summarization"]),
    dict(id="1", score=0.0, question_type=["reasoning"]),
    dict(id="2", score=None, question_type=["reasoning"]),
  ]
  assert lvbench.capability_shares(rows) == dict(Rea=0.5, Sum=1.0, Overall=0.5)


@pytest.mark.parametrize(
  "change, reason",
  [(dict(answer="(D) Grey"), "none of its candidates"), (dict(candidates="(A) Red"), "not a list")],
)
def test_a_bad_record_is_listed(tmp_path, change, reason):
  rows = [files.lvbench_row("00000001"), files.lvbench_row("00000002", **change)]
  files.write_json(tmp_path / "lvbench_clean.json", rows)
  examples, source = reading.examples_and_source("lvbench", tmp_path)
  assert len(examples) == 1 and reason in str(source.report.bad[0])


def test_a_bad_question_of_the_authors_is_listed(tmp_path):
  good = dict(uid="5", question="Who?", answer="A", question_type=["reasoning"])
  videos = [dict(key="a", type="tv", qa=[good, dict(good, uid="6", answer="E"), 7])]
  videos.append(dict(key="b", type="tv", qa="none"))
  text = "\n".join(map(json.dumps, videos))
  files.write_text(tmp_path / "video_info.meta.jsonl", text)
  examples, source = reading.examples_and_source("lvbench", tmp_path)
  assert [example.id for example in examples] == ["5"] and len(source.report.bad) == 3


def test_a_cut_file_is_refused(tmp_path):
  files.write_text(tmp_path / "video_info.meta.jsonl", '{"key": "a", "type": "tv", "qa": [\n')
  with pytest.raises(BadAnnotation, match=r"meta\.jsonl:1 is not JSON"):
    reading.examples_of("lvbench", tmp_path)


def test_fields_of_another_version_are_named(tmp_path):
  files.write_json(tmp_path / "lvbench_clean.json", [dict(video="1", question="Who?")])
  with pytest.raises(BadAnnotation, match=r"has no type, candidates.*fields are video, question"):
    reading.examples_of("lvbench", tmp_path)


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
  with pytest.raises(MissingAnnotation, match=r"meta\.jsonl is missing.*THUDM/LVBench"):
    reading.examples_of("lvbench", tmp_path)
