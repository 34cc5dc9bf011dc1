# SPDX-License-Identifier: Apache-2.0
"""The report of several runs beside published scores."""

import csv
import io
import json
import pathlib

import pytest

from filax.cli import evals_report
from filax.evals import published
from filax.evals.duration_groups import COLUMN, duration_group, score_columns
from filax.evals.report import build_report, gather_runs
from filax.evals.report_files import csv_text, latex_text, markdown_text
from filax.evals.report_page import report_page, write_report_page
from filax.evals.result_fields import BadResults
from filax.evals.results import read_results
from filax.evals.score_bars import SERIES
from filax.testing import clips
from filax.testing.evaluation_results import answer_rows, grounding_rows, write_results


@pytest.fixture
def runs(tmp_path):
  """A folder of two runs: three evaluations of two benchmarks."""
  fila = dict(protocol="lmms-eval", note="paper silent", checkpoint="fila")
  write_results(tmp_path / "runs/fila/mvbench", answer_rows(60), benchmark="mvbench", **fila)
  write_results(tmp_path / "runs/vcf/mvbench", answer_rows(60, 0.8, 1), benchmark="mvbench")
  rows = grounding_rows(30)
  write_results(tmp_path / "runs/vcf/charades_sta", rows, benchmark="charades_sta")
  return tmp_path / "runs"


def report_of(*paths):
  return build_report(gather_runs(paths))


def page_of(*paths):
  gathered = gather_runs(paths)
  return report_page(build_report(gathered), gathered)


def published_of(report, benchmark, model):
  scores = report["benchmarks"][benchmark]["published"]
  return [score for score in scores if score["model"] == model]


def test_evaluations_are_found_below_a_folder(runs):
  report = report_of(runs)
  assert report["runs"] == ["fila", "vcf"]
  assert {name: len(part["runs"]) for name, part in report["benchmarks"].items()} == {
    "mvbench": 2,
    "charades_sta": 1,
  }


def test_a_private_benchmark_lies_under_its_own_name(tmp_path):
  write_results(tmp_path / "fila/plates", answer_rows(9), benchmark="my_lab.kitchen:plates")
  assert report_of(tmp_path)["runs"] == ["fila"]


def test_a_folder_is_read_once(runs):
  report = report_of(runs, runs / "vcf", runs / "vcf/mvbench/result.json")
  assert len(report["benchmarks"]["mvbench"]["runs"]) == 2


def test_a_folder_without_evaluations_is_refused(tmp_path):
  with pytest.raises(BadResults, match=r"holds no result\.json"):
    gather_runs([tmp_path])


def test_a_damaged_evaluation_is_listed(runs):
  (runs / "broken").mkdir()
  (runs / "broken/result.json").write_text("{")
  report = report_of(runs)
  assert "broken/result.json is not JSON" in report["unreadable"][0]
  assert "broken/result.json is not JSON" in page_of(runs)


def test_damaged_evaluations_alone_are_refused(tmp_path):
  (tmp_path / "result.json").write_text("{")
  with pytest.raises(BadResults, match="is not JSON"):
    gather_runs([tmp_path])


def test_published_scores_stand_beside_runs(runs):
  score = published_of(report_of(runs), "mvbench", "VideoChat-Flash 7B @448")[0]
  assert (score["score"], score["protocol"]) == (pytest.approx(0.74), "vcf")
  assert "arXiv:2501.00574" in score["source"]
  assert score["mismatch"] == ""


def test_a_protocol_that_is_not_stated_is_a_mismatch(runs):
  score = published_of(report_of(runs), "mvbench", "FiLA-Video 7B")[0]
  assert score["mismatch"] == "its protocol is not stated"


def test_a_protocol_that_no_run_followed_is_a_mismatch(runs):
  report = report_of(runs / "fila")
  score = published_of(report, "mvbench", "VideoChat-Flash 7B @448")[0]
  assert score["mismatch"] == "no run under protocol vcf"


def test_a_run_that_is_not_comparable_matches_nothing(tmp_path):
  write_results(tmp_path, answer_rows(9), benchmark="mvbench", comparable=False)
  score = published_of(report_of(tmp_path), "mvbench", "VideoChat-Flash 7B @448")[0]
  assert score["mismatch"] == "no comparable run under protocol vcf"


def test_the_page_marks_mismatches(runs):
  page = page_of(runs)
  assert "74.0</span>" in page and "56.6 ≠</span>" in page


def test_the_page_shows_thresholds_of_grounding(runs):
  page = page_of(runs)
  assert "51.4 R@0.5" in page and "72.5 R@0.3" in page and "mIoU" in page


def test_notes_and_reasons_stand_on_the_page(runs):
  write_results(
    runs / "other/mvbench",
    answer_rows(9),
    benchmark="mvbench",
    comparable=False,
    reasons=["Three videos are missing."],
  )
  page = page_of(runs)
  assert "other: Three videos are missing." in page
  assert "fila: paper silent" in page
  assert ">*</span>" in page or "*</span>" in page


def test_every_column_has_bars_of_every_run(runs):
  page = page_of(runs)
  assert "By task" in page and f"By {COLUMN}" in page
  assert page.count("fill series1") == page.count("track many")


def test_many_runs_become_a_table(tmp_path):
  for number in range(SERIES + 2):
    write_results(tmp_path / f"run{number}/cups", answer_rows(12))
  page = page_of(tmp_path)
  assert "By task" in page and "fill series" not in page


def test_samples_show_the_answers_of_every_run(tmp_path):
  video = clips.write_video(tmp_path / "v.mp4", 6)
  for name in ("a", "b"):
    rows = [dict(row, media=video) for row in answer_rows(3)]
    write_results(tmp_path / name / "cups", rows)
  page = page_of(tmp_path)
  assert page.count("data:image/jpeg") == 1
  assert "a: </span>" in page and "b: </span>" in page


def test_a_question_that_a_run_did_not_answer_is_no_error(tmp_path):
  write_results(tmp_path / "a/cups", answer_rows(30))
  write_results(tmp_path / "b/cups", answer_rows(1))
  assert "no answer" in page_of(tmp_path)


def test_a_forbidden_text_is_nowhere_on_the_page(tmp_path):
  rows = [dict(row, answer="secret", question="secret", expected="secret", media="secret")
          for row in answer_rows(9)]  # fmt: skip
  write_results(tmp_path / "a/cups", rows, shows_text=False, first_prompt="secret")
  write_results(tmp_path / "b/cups", rows)
  page = page_of(tmp_path / "a")
  assert "secret" not in page
  assert "data:image" not in page_of(tmp_path)


def test_no_text_becomes_an_element(tmp_path):
  attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
  rows = [dict(row, answer=attack, question=attack, task=attack) for row in answer_rows(9)]
  fields = dict(benchmark=attack, protocol=attack, reasons=[attack], comparable=False, note=attack)
  write_results(tmp_path / "run", rows, **fields)
  page = page_of(tmp_path)
  assert "<script" not in page and "<img" not in page


def test_a_run_without_answers_is_reported(tmp_path):
  write_results(tmp_path / "cups", [], scores={"accuracy": None}, finished=False)
  assert "The run has not finished." in page_of(tmp_path)


def test_the_page_loads_nothing(runs):
  page = page_of(runs)
  assert "http://" not in page and "https://" not in page
  assert "script-src 'none'" in page


def test_writing_gives_the_numbers(runs, tmp_path):
  report = write_report_page(tmp_path / "out/report.html", gather_runs([runs]))
  assert json.loads(json.dumps(report)) == report
  assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")


def test_the_command_prints_a_line_for_each_evaluation(runs, tmp_path, capsys):
  evals_report.main([str(runs), "--out", str(tmp_path / "report.html")])
  printed = capsys.readouterr().out
  assert "60 of 60 questions, protocol lmms-eval, comparable" in printed
  assert (tmp_path / "report.html").exists()


def test_a_folder_is_no_page(runs):
  with pytest.raises(ValueError, match=r"is a folder\. Name the page"):
    evals_report.main([str(runs), "--out", str(runs)])


def test_the_command_prints_json(runs, capsys):
  evals_report.main([str(runs), "--json"])
  assert set(json.loads(capsys.readouterr().out)["benchmarks"]) == {"mvbench", "charades_sta"}


def test_lengths_are_grouped():
  assert duration_group(dict(seconds=12.5)) == "up to 1 minute"
  assert duration_group(dict(duration=3600)) == "15 to 60 minutes"
  assert duration_group(dict(duration="long")) == ""
  assert duration_group(dict()) == ""


def test_a_benchmark_with_lengths_keeps_its_own(tmp_path):
  rows = answer_rows(60)
  by = {"duration": {"long": dict(accuracy=0.5, questions=60)}}
  assert list(score_columns(read_results(write_results(tmp_path, rows, by=by)))) == ["duration"]


def test_published_scores_are_complete():
  for score in published.all_published():
    assert 0 < score.score < 1
    assert score.model and score.benchmark and score.source and score.frames


def test_published_scores_are_of_known_metrics():
  names = {score.metric for score in published.all_published()}
  assert names == {"", "R@0.3", "R@0.5", "R@0.7", "CAP", "QA"}


def test_files_of_pages_are_part_of_the_package():
  folder = pathlib.Path(published.__file__).parent
  settings = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
  for path in folder.iterdir():
    if path.suffix in (".css", ".csv", ".js"):
      assert f'"evals/*{path.suffix}"' in settings


def test_csv_has_a_line_for_each_score(runs):
  report = report_of(runs)
  rows = list(csv.DictReader(io.StringIO(csv_text(report))))
  whole = {(row["run"], row["benchmark"]): row for row in rows if not row["column"]}
  assert set(whole) == {("fila", "mvbench"), ("vcf", "mvbench"), ("vcf", "charades_sta")}
  (fila, vcf) = report["benchmarks"]["mvbench"]["runs"]
  assert float(whole["fila", "mvbench"]["points"]) == pytest.approx(100 * fila["score"], abs=1e-4)
  groups = {row["group"]: row for row in rows if (row["run"], row["column"]) == ("vcf", "task")}
  count = vcf["by"]["task"]["Order"]["questions"]
  assert groups["Order"]["metric"] == "R@0.5" and count > 0
  assert {row["questions"] for row in rows if row["group"] == "Order"} >= {str(count)}


def test_tables_for_papers_have_runs_published_scores_and_columns(runs):
  markdown = markdown_text(report_of(runs))
  assert "|  | mvbench | charades_sta |\n|---|---:|---:|\n| fila | " in markdown
  assert "| FiLA-Video 7B | 56.6 ≠ |  |" in markdown
  assert "### mvbench by task\n\n|  | Counting | Order | Action | OCR & signs | " in markdown
  latex = latex_text(report_of(runs))
  assert " & mvbench & charades\\_sta \\\\\n\\midrule\nfila & " in latex
  assert "OCR \\& signs" in latex and "VideoChat-Flash 7B @448 & 74.0 & 51.4 \\\\" in latex


@pytest.mark.parametrize("name", ["report.csv", "report.md", "REPORT.TEX"])
def test_the_ending_of_the_file_names_its_format(runs, tmp_path, name, capsys):
  evals_report.main([str(runs), "--out", str(tmp_path / name)])
  assert "mvbench" in (tmp_path / name).read_text() and "<" not in (tmp_path / name).read_text()
  assert capsys.readouterr().out.rstrip().endswith(name)
