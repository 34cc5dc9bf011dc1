# SPDX-License-Identifier: Apache-2.0
"""Verdicts, tables and files of a study, from cells written by hand."""

import json

import numpy as np
import pytest

from filax.studies import study_report
from filax.studies.cell_files import CellFolder, CellQuestion, CellResult
from filax.studies.crossed import CrossedMean
from filax.studies.design import read_design
from filax.studies.study_hash import cell_hash, run_hash
from filax.studies.study_table import study_numbers

KINDS = ("shape/short", "shape/long")


def config(**changes):
  cells = (("a", dict(run="r", title="A")), ("b", dict(run="r", dropout="off")))
  return (
    dict(
      name="hand",
      title="By hand",
      paper="No paper.",
      note="",
      data=dict(kind=""),
      runs=(("r", dict(config=dict(seed=0, log_every=1, data=dict(cache="x")))),),
      cells=cells,
      questions=(("q", dict(manifest="{data}/held_out.json")),),
      columns=(
        ("all", dict(questions="q")),
        ("short", dict(questions="q", field="kind", pattern="short")),
      ),
      contrasts=(("all", "a", "b", "here"), ("short", "b", "a", "there")),
      published=(("all", "a", 60.0), ("all", "b", 59.0)),
      axis="",
      lines=(),
    )
    | changes
  )


@pytest.fixture
def folder(tmp_path):
  return CellFolder(tmp_path / "cells")


def write(folder, cell, seed, scores, digest="h"):
  questions = [
    CellQuestion(f"{n:03d}", f"v{n // 4}", dict(kind=KINDS[n % 2])) for n in range(len(scores))
  ]
  scores = tuple(map(float, scores))
  result = CellResult(
    study="hand",
    cell=cell,
    seed=seed,
    hash=digest,
    commit="abc",
    seconds=1.0,
    device="cpu",
    scores=dict(q=float(np.mean(scores))),
    questions=dict(q=folder.write_cell_questions(questions)),
    verdicts=dict(q=scores),
  )
  folder.write_cell(result)
  return result


def numbers_of(folder, design, seeds=2, digest="h"):
  hashes = {(cell, seed): digest for cell in design.cells for seed in range(seeds)}
  return study_numbers(design, folder, hashes, seeds)


def test_a_cell_is_read_as_it_was_written(folder):
  exact = write(folder, "a", 0, [1, 0, 1, 1])
  assert folder.read_cell("a", 0) == exact
  assert json.loads(folder.cell_path("a", 0).read_bytes())["verdicts"] == dict(q="1011")
  graded = write(folder, "b", 0, [0.25, 1.0])
  assert folder.read_cell("b", 0) == graded


def test_a_damaged_cell_is_named(folder):
  write(folder, "a", 0, [1, 0])
  folder.cell_path("a", 0).write_text("{")
  with pytest.raises(ValueError, match=r"a\.seed0\.json is damaged"):
    folder.read_cell("a", 0)


def test_a_damaged_file_of_questions_is_written_anew(folder):
  """As its error says: the cell is deleted, and the same command asks again."""
  result = write(folder, "a", 0, [1, 0])
  (path,) = folder.folder.glob("questions.*.json")
  path.write_text("<<<<<<< HEAD")
  with pytest.raises(ValueError, match="Delete the cells beside it"):
    folder.read_cell_questions(result.questions["q"])
  write(folder, "a", 0, [1, 0])
  assert len(folder.read_cell_questions(result.questions["q"])) == 2


def test_verdicts_follow_the_interval(folder):
  """a beats b by 0.3 on all; on short ones alone a is better too, so the claim b > a fails."""
  rng = np.random.default_rng(0)
  design = read_design(config())
  for seed in range(2):
    low = rng.uniform(size=400) < 0.4
    write(folder, "b", seed, low)
    write(folder, "a", seed, low | (rng.uniform(size=400) < 0.5))
  numbers = numbers_of(folder, design)
  first, second = numbers.verdicts
  assert (first.verdict, second.verdict) == ("agrees", "disagrees")
  assert first.difference.mean == pytest.approx(0.3, abs=0.06)
  assert second.difference.questions == 200
  assert first.published == 1.0
  assert second.published is None


@pytest.mark.parametrize(
  ("source", "verdict", "words"),
  [
    (dict(run="r"), "undecided", "1 of 2 seeds; one seed decides nothing"),
    (dict(checkpoint="x"), "agrees", "one checkpoint"),
  ],
)
def test_one_seed_decides_only_about_a_checkpoint(folder, source, verdict, words):
  """The variation between seeds is unknown; a checkpoint has none."""
  rng = np.random.default_rng(0)
  design = read_design(config(cells=(("a", source), ("b", source | dict(dropout="off")))))
  low = rng.uniform(size=400) < 0.4
  write(folder, "b", 0, low)
  write(folder, "a", 0, low | (rng.uniform(size=400) < 0.5))
  numbers = numbers_of(folder, design)
  assert numbers.verdicts[0].difference.low > 0
  assert numbers.verdicts[0].verdict == verdict
  assert words in study_report.markdown(numbers)


def test_without_a_difference_it_is_undecided_and_says_what_it_could_see(folder):
  rng = np.random.default_rng(1)
  design = read_design(config())
  for seed in range(2):
    scores = rng.integers(0, 2, 40)
    write(folder, "a", seed, scores)
    write(folder, "b", seed, np.roll(scores, 4))  # As many right ones of each kind.
  numbers = numbers_of(folder, design)
  assert {verdict.verdict for verdict in numbers.verdicts} == {"undecided"}
  assert numbers.verdicts[0].smallest > 0.1
  assert "study too small" in study_report.markdown(numbers)


def test_a_smallest_difference_of_more_than_100_points_is_written_in_points(folder):
  """With seeds that contradict each other, no difference of scores would be seen."""
  design = read_design(config())
  for seed in range(2):
    write(folder, "a", seed, [seed] * 8)
    write(folder, "b", seed, [1 - seed] * 8)
  numbers = numbers_of(folder, design)
  smallest = numbers.verdicts[0].smallest
  assert smallest > 1
  assert f"| {100 * smallest:.1f}, study too small |" in study_report.markdown(numbers)


def test_equal_answers_are_undecided(folder):
  design = read_design(config())
  for cell in ("a", "b"):
    for seed in range(2):
      write(folder, cell, seed, [1, 0, 1, 1] * 2)
  verdict = numbers_of(folder, design).verdicts[0]
  assert (verdict.verdict, verdict.smallest) == ("undecided", None)  # Without a spread.


def test_a_trained_model_beside_a_checkpoint_decides_nothing(folder):
  """They share one seed, and another seed of the trained one may give another order."""
  cells = (("a", dict(checkpoint="x")), ("b", dict(run="r")))
  design = read_design(config(cells=cells))
  write(folder, "a", 0, [1] * 40)
  write(folder, "b", 0, [1, 0, 0, 0] * 10)
  verdict = numbers_of(folder, design).verdicts[0]
  assert verdict.difference.low > 0
  assert (verdict.verdict, verdict.smallest) == ("undecided", None)


def test_one_seed_is_written_as_such(folder):
  write(folder, "a", 0, [1, 0])
  numbers = numbers_of(folder, read_design(config()), seeds=1)
  assert study_report.seeds_text(numbers) == "1 seed; one seed decides nothing"


def test_a_cell_that_was_asked_less_is_named(folder):
  """Videos that could not be read are left out of its questions."""
  design = read_design(config())
  for cell in ("a", "b"):
    write(folder, cell, 0, [1, 0, 1, 1])
  write(folder, "b", 1, [1, 0])
  text = study_report.markdown(numbers_of(folder, design))
  assert "Asked other questions than most cells: b.seed1 (2 of q)." in text


def test_a_column_without_questions_is_named(folder):
  columns = (("all", dict(questions="q")), ("short", dict(questions="q", field="kind")))
  columns[1][1]["pattern"] = "shrot"
  design = read_design(config(columns=columns))
  assert "Without any question" not in study_report.markdown(numbers_of(folder, design))
  write(folder, "a", 0, [1, 0])
  assert "Without any question: short." in study_report.markdown(numbers_of(folder, design))


def test_one_video_has_no_interval_and_no_verdict(folder, tmp_path):
  design = read_design(config())
  write(folder, "a", 0, [1, 1, 1, 1])
  write(folder, "b", 0, [1, 0, 0, 1])
  numbers = numbers_of(folder, design, seeds=1)
  assert (numbers.verdicts[0].verdict, numbers.verdicts[0].smallest) == ("undecided", None)
  study_report.write_report(numbers, tmp_path)
  text = (tmp_path / "report.json").read_text()
  assert "NaN" not in text and "nan" not in (tmp_path / "report.md").read_text()


def test_missing_and_outdated_cells_count_nowhere(folder):
  design = read_design(config())
  write(folder, "a", 0, [1, 0])
  write(folder, "b", 0, [1, 0], digest="older")
  numbers = numbers_of(folder, design)
  assert numbers.missing == ["a", "b"]
  assert numbers.outdated == ["b.seed0.json"]
  assert {verdict.verdict for verdict in numbers.verdicts} == {"not run"}


def test_a_report_is_complete_and_escapes_titles(folder, tmp_path):
  design = read_design(config(title="A <b>title</b>"))
  for cell in ("a", "b"):
    write(folder, cell, 0, [1, 0, 1, 1])
  paths = study_report.write_report(numbers_of(folder, design), tmp_path / "report")
  assert sorted(path.name for path in paths) == [
    *("figure.png", "report.html", "report.json", "report.md")
  ]
  page = (tmp_path / "report/report.html").read_text()
  assert "&lt;b&gt;title" in page and "<b>title" not in page
  values = json.loads((tmp_path / "report/report.json").read_bytes())
  assert [row["verdict"] for row in values["contrasts"]] == ["undecided", "undecided"]
  assert "| A | 75.0" in (tmp_path / "report/report.md").read_text()


def test_speed_settings_change_no_hash():
  design = read_design(config())
  faster = config()
  faster["runs"][0][1]["config"] |= dict(log_every=50, data=dict(cache="y", threads=4))
  other = config()
  other["runs"][0][1]["config"] |= dict(seed=1)
  assert run_hash(design, "r", 0) == run_hash(read_design(faster), "r", 0)
  assert run_hash(design, "r", 0) != run_hash(read_design(other), "r", 0)


def test_a_hash_depends_on_how_a_cell_is_asked():
  design = read_design(config())
  digests = {cell_hash(design, cell, seed) for cell in design.cells.values() for seed in range(2)}
  assert len(digests) == 4


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(contrasts=(("all", "a", "c"),)), "'c'"),
    (dict(cells=(("a", dict(run="r2")),)), "'r2'"),
    (dict(cells=(("a", dict(run="r", smell=1)),)), "'smell'"),
    (dict(cells=(("a/b", dict(run="r")),)), "a/b cannot name files"),
    (dict(cells=(("a", dict(run="r")), ("a", dict(run="r")))), "twice"),
    (dict(cells=(("a", dict()),)), "either a run or a checkpoint"),
    (dict(runs=(("r", dict(config={}, after="r")),)), "starts from itself"),
    (dict(columns=(("all", dict(questions="q", field="kind", pattern="(")),)), "regular"),
    (dict(columns=()), "measures nothing"),
  ],
)
def test_a_design_that_refers_to_nothing_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    read_design(config(**changes))


@pytest.mark.parametrize(
  ("mean", "low", "high", "text"),
  [
    (0.770, 0.240, 1.300, "77.0 (24.0 to 100.0)"),
    (0.704, -0.036, 1.444, "70.4 (0.0 to 100.0)"),
    (0.500, 0.400, 0.600, "50.0 (40.0 to 60.0)"),
    (1.250, 1.100, 1.400, "1.25 (1.1 to 1.4)"),
  ],
)
def test_the_interval_of_a_share_ends_at_0_and_100(mean, low, high, text):
  score = CrossedMean(mean, low, high, error=0.1, freedom=2.0, seeds=3, questions=9)
  assert study_report.mean_text(score) == text
