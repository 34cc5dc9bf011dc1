# SPDX-License-Identifier: Apache-2.0
"""Paired comparisons of evaluations."""

import json

import numpy as np
import pytest
import scipy.stats

from filax.cli import evals_compare
from filax.evals import resampling
from filax.evals.compare import Bootstrap, compare, compare_runs, mcnemar
from filax.evals.compare_page import comparison_page, interval_text, p_text, write_comparison
from filax.evals.paired_answers import PairedAnswers
from filax.evals.result_fields import BadResults
from filax.evals.results import read_results
from filax.testing.evaluation_results import answer_row, answer_rows, write_results

FEW = Bootstrap(resamples=200)


def run(folder, rows, **fields):
  return read_results(write_results(folder, rows, **fields))


def two_runs(tmp_path, first, second, **fields):
  return run(tmp_path / "a", first), run(tmp_path / "b", second, **fields)


def changed_rows(rows, flips):
  """Rows with other verdicts: number of the row -> whether it is right now."""
  rows = [dict(row) for row in rows]
  for number, right in flips.items():
    rows[number] = answer_row(number, right)
  return rows


def zeros(count):
  return np.zeros(count, np.int64)


def direct_bootstrap(values, units, groups, resamples, seed):
  """The definition, a resample at a time."""
  generator = np.random.default_rng(seed)
  members = [np.flatnonzero(units == unit) for unit in np.unique(units)]
  means = []
  for _ in range(resamples):
    drawn = generator.integers(len(members), size=len(members))
    rows = np.concatenate([members[unit] for unit in drawn])
    present = np.unique(groups[rows])
    means.append(np.mean([values[rows][groups[rows] == group].mean() for group in present]))
  return np.quantile(means, [0.025, 0.975])


def test_the_difference_is_that_of_common_questions(tmp_path):
  rows = [answer_row(i, right=i < 5) for i in range(10)]
  first, second = two_runs(tmp_path, rows, changed_rows(rows[:8], {6: True, 7: True}))
  comparison = compare(first, second, FEW)
  assert (comparison["paired"], comparison["only_first"], comparison["only_second"]) == (8, 2, 0)
  assert comparison["first_score"] == pytest.approx(5 / 8)
  assert comparison["second_score"] == pytest.approx(7 / 8)
  assert comparison["difference"] == pytest.approx(2 / 8)


def test_pairs_are_found_in_any_order(tmp_path):
  rows = answer_rows(40)
  first, second = two_runs(tmp_path, rows, rows[::-1])
  comparison = compare(first, second, FEW)
  assert comparison["difference"] == 0 and comparison["flips"] == []
  assert comparison["interval"] == (0, 0)


def test_other_benchmarks_are_refused(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(3), answer_rows(3), benchmark="plates")
  with pytest.raises(BadResults, match=r"answers cups and .* plates: compare runs of one"):
    compare(first, second)


def test_runs_without_answers_are_refused(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(3), [])
  with pytest.raises(BadResults, match="holds no scored answers"):
    compare(first, second)


def test_runs_without_common_questions_are_refused(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(3), [answer_row(9)])
  with pytest.raises(BadResults, match="share no scored question"):
    compare(first, second)


def test_one_run_alone_is_refused(tmp_path):
  with pytest.raises(BadResults, match="Name two or more"):
    compare_runs([run(tmp_path, answer_rows(3))])


def test_several_runs_are_compared_with_the_first(tmp_path):
  runs = [run(tmp_path / name, answer_rows(12), checkpoint=name) for name in "abc"]
  comparisons = compare_runs(runs, FEW)
  assert [c["first"]["checkpoint"] for c in comparisons] == ["a", "a"]
  assert [c["second"]["checkpoint"] for c in comparisons] == ["b", "c"]


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    (dict(protocol="lmms-eval"), "The protocols differ: vcf and lmms-eval."),
    (dict(protocol_version="2"), "The versions of the protocol differ"),
    (dict(hashes={"annotations": {"x": "y"}}), "The annotation files differ by their hashes"),
    (dict(finished=False), "has not finished"),
  ],
)
def test_what_makes_runs_differ_is_named(tmp_path, fields, words):
  first, second = two_runs(tmp_path, answer_rows(12), answer_rows(12), **fields)
  assert any(words in sentence for sentence in compare(first, second, FEW)["warnings"])


def test_equal_runs_have_no_warnings(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(12), answer_rows(12))
  comparison = compare(first, second, FEW)
  assert comparison["warnings"] == [] and comparison["settings"] == {}


def test_differing_settings_are_listed(tmp_path):
  first, second = two_runs(
    tmp_path, answer_rows(12), answer_rows(12), selector="uniform", frames=64
  )
  second.result["settings"] = dict(first.result["settings"], dtype="float32")
  settings = compare(first, second, FEW)["settings"]
  assert settings == {"dtype": ["bfloat16", "float32"]}


def test_unpaired_questions_are_counted(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(12), answer_rows(15)[2:])
  comparison = compare(first, second, FEW)
  assert comparison["only_first_ids"] == ["q0", "q1"]
  assert comparison["only_second"] == 3
  assert "2 questions answered by" in comparison["warnings"][0]


@pytest.mark.parametrize("times", [(2, 1), (1, 2)])
def test_ids_of_several_answers_are_left_out(tmp_path, times):
  rows = answer_rows(6)
  first, second = two_runs(tmp_path, *(rows + rows[:1] * (count - 1) for count in times))
  comparison = compare(first, second, FEW)
  assert comparison["paired"] == 5
  assert any("1 id of several answers" in sentence for sentence in comparison["warnings"])


def test_answers_without_a_score_are_not_paired(tmp_path):
  rows = answer_rows(6)
  hidden = [dict(row, score=None) if row["id"] == "q3" else row for row in rows]
  first, second = two_runs(tmp_path, rows, hidden)
  assert compare(first, second, FEW)["paired"] == 5


def test_flips_are_listed_with_both_answers(tmp_path):
  rows = [answer_row(i, right=i % 2 == 0) for i in range(8)]
  first, second = two_runs(tmp_path, rows, changed_rows(rows, {0: False, 1: True}))
  flips = compare(first, second, FEW)["flips"]
  assert [(flip["id"], flip["change"]) for flip in flips] == [
    ("q0", "right → wrong"),
    ("q1", "wrong → right"),
  ]
  assert (flips[0]["first"], flips[0]["second"], flips[0]["expected"]) == ("A.", "B.", "A")


def test_flips_of_a_forbidden_set_hold_letters_only(tmp_path):
  rows = [answer_row(i, answer="B. secret", expected="secret") for i in range(4)]
  others = [dict(row, score=0.0) for row in rows]
  first, second = two_runs(tmp_path, rows, others, shows_text=False)
  comparison = compare(first, second, FEW)
  assert "secret" not in json.dumps(comparison["flips"])
  assert "secret" not in comparison_page([comparison])


def test_differences_by_column(tmp_path):
  rows = [answer_row(i, right=False) for i in range(10)]
  first, second = two_runs(tmp_path, rows, changed_rows(rows, {1: True, 6: True}))
  by = compare(first, second, FEW)["by"]["task"]
  assert by["Order"] == dict(questions=2, first=0.0, second=1.0, difference=1.0)
  assert by["Counting"]["difference"] == 0


def test_the_macro_average_is_compared_over_its_column(tmp_path):
  rows = [answer_row(i, False, task="few" if i < 2 else "many") for i in range(10)]
  others = [dict(rows[0], score=1.0), *rows[1:]]
  first, second = two_runs(tmp_path, rows, others)
  first.result["macro_column"] = "task"
  comparison = compare(first, second, FEW)
  assert comparison["difference"] == pytest.approx(0.25)  # (1/2 + 0/8) / 2


def test_a_macro_average_without_its_column_is_named(tmp_path):
  scores = dict(accuracy=0.4, micro=0.5, macro=0.4)
  first = run(tmp_path / "a", answer_rows(12), scores=scores)
  second = run(tmp_path / "b", answer_rows(12), scores=scores)
  assert "macro average" in compare(first, second, FEW)["warnings"][0]


def test_mcnemar_agrees_with_scipy_and_with_the_definition():
  generator = np.random.default_rng(1)
  before = generator.random(300) < 0.6
  after = np.where(generator.random(300) < 0.15, ~before, before)
  pairs = PairedAnswers(
    [dict(score=float(value)) for value in before],
    [dict(score=float(value)) for value in after],
    *([], [], []),
  )
  test = mcnemar(pairs)
  lost = int((before & ~after).sum())
  flips = lost + int((after & ~before).sum())
  assert (test["lost"], test["lost"] + test["gained"]) == (lost, flips)
  tail = min(lost, flips - lost)
  assert test["p"] == pytest.approx(min(1, 2 * scipy.stats.binom.cdf(tail, flips, 0.5)), rel=1e-9)
  assert sum(test[name] for name in ("both_right", "both_wrong", "lost", "gained")) == 300


def test_half_a_score_is_right_for_mcnemar():
  scores = [(0.4, 0.5), (0.5, 0.4), (0.9, 0.5), (0.1, 0.4)]
  first = [dict(score=before) for before, _ in scores]
  second = [dict(score=after) for _, after in scores]
  test = mcnemar(PairedAnswers(first, second, [], [], []))
  counts = [test[name] for name in ("gained", "lost", "both_right", "both_wrong")]
  assert counts == [1, 1, 1, 1]


def test_a_group_that_a_resample_leaves_empty_has_no_share():
  groups = np.array([0] * 9 + [1])  # A third of the resamples lack the last question.
  assert resampling.bootstrap_interval(np.ones(10), np.arange(10), groups) == (1.0, 1.0)


def test_mcnemar_without_flips_is_certain_of_nothing():
  pairs = PairedAnswers([dict(score=1.0)], [dict(score=1.0)], [], [], [])
  assert mcnemar(pairs)["p"] == 1.0


@pytest.mark.parametrize("kind", ["questions", "videos", "overlaps", "macro"])
def test_the_bootstrap_agrees_with_its_definition(kind):
  generator = np.random.default_rng(3)
  count = 240
  values = generator.choice([-1.0, 0.0, 1.0], count, p=[0.1, 0.7, 0.2])
  units = np.arange(count)
  groups = zeros(count)
  if kind == "overlaps":
    values = generator.normal(0.05, 0.3, count)
  if kind != "questions":
    units = np.sort(generator.integers(0, 60, count))
    units = np.unique(units, return_inverse=True)[1]
    values = values + 0.3 * generator.normal(size=60).round(1)[units]
  if kind == "macro":
    groups = generator.integers(0, 4, count)
  low, high = resampling.bootstrap_interval(values, units, groups, resamples=20_000)
  expected = direct_bootstrap(values, units, groups, 4000, 7)
  width = expected[1] - expected[0]
  np.testing.assert_allclose([low, high], expected, atol=0.05 * width)


def test_the_bootstrap_agrees_with_scipy():
  values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.75, 0.15])
  interval = resampling.bootstrap_interval(values, np.arange(500), zeros(500))
  reference = scipy.stats.bootstrap(
    (values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
  ).confidence_interval
  np.testing.assert_allclose(interval, reference, atol=2e-3)


def test_the_bootstrap_is_seeded():
  values = np.random.default_rng(0).normal(size=200)
  first = resampling.bootstrap_interval(values, np.arange(200), zeros(200), seed=5)
  again = resampling.bootstrap_interval(values, np.arange(200), zeros(200), seed=5)
  other = resampling.bootstrap_interval(values, np.arange(200), zeros(200), seed=6)
  assert first == again != other


def test_videos_whose_questions_flip_together_widen_the_interval():
  flips = np.repeat(np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 100), 5)
  videos = np.repeat(np.arange(100), 5)
  low, high = resampling.bootstrap_interval(flips, videos, zeros(500))
  narrow_low, narrow_high = resampling.bootstrap_interval(flips, np.arange(500), zeros(500))
  assert high - low == pytest.approx((narrow_high - narrow_low) * np.sqrt(5), rel=0.1)


def test_questions_without_a_medium_are_units_of_their_own():
  rows = [dict(media="a"), dict(media=""), dict(media="a"), dict(), dict(media="b")]
  assert resampling.media_units(rows).tolist() == [0, 1, 0, 2, 3]


def test_the_error_of_a_mean_agrees_with_scipy():
  values = np.random.default_rng(0).normal(size=80)
  error = resampling.mean_error(values, np.arange(80))
  assert error == pytest.approx(scipy.stats.sem(values))
  of_videos = resampling.mean_error(np.repeat(values, 3), np.repeat(np.arange(80), 3))
  assert of_videos == pytest.approx(error)


def test_both_intervals_are_given(tmp_path):
  rows = answer_rows(90)
  others = changed_rows(rows, {i: True for i in range(0, 90, 7)})
  first, second = two_runs(tmp_path, rows, others)
  comparison = compare(first, second, FEW)
  assert comparison["interval"] == comparison["intervals"]["media"]
  by_question = compare(first, second, Bootstrap("question", 200))
  assert by_question["interval"] == comparison["intervals"]["question"]


def test_the_page_escapes_and_lists_flips(tmp_path):
  attack = "</script><script>alert(1)</script>"
  rows = [answer_row(i, answer=attack, question=attack, task=attack) for i in range(4)]
  others = [dict(row, score=0.0) for row in rows]
  first, second = two_runs(tmp_path, rows, others, checkpoint=attack)
  page = comparison_page([compare(first, second, FEW)])
  assert "<script>alert" not in page
  assert page.count("</script>") == 2


def test_the_page_of_several_runs_has_a_line_each(tmp_path):
  runs = [run(tmp_path / name / "cups", answer_rows(12)) for name in "abc"]
  page = comparison_page(compare_runs(runs, FEW))
  assert "cups: a/cups against b/cups, c/cups" in page
  assert page.count('id="flips') == 0  # No verdict changed.
  assert page.count("No verdict changed.") == 2


def test_page_and_numbers_are_written(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(12), answer_rows(12, seed=1))
  write_comparison(tmp_path / "out", compare_runs([first, second], FEW))
  numbers = json.loads((tmp_path / "out/compare.json").read_text())
  assert numbers[0]["paired"] == 12
  assert (tmp_path / "out/compare.html").read_text().startswith("<!doctype html>")


def test_numbers_are_signed():
  assert interval_text((-0.0123, 0.04)) == "\N{MINUS SIGN}1.2 … +4.0"
  assert p_text(0.00001) == "< 0.0001" and p_text(0.25) == "0.2500"


def test_the_command_prints_and_writes(tmp_path, capsys):
  two_runs(tmp_path, answer_rows(60), answer_rows(60, seed=1), protocol="lmms-eval")
  folders = [str(tmp_path / "a"), str(tmp_path / "b/result.json")]
  evals_compare.main([*folders, "--resamples", "200", "--out", str(tmp_path / "diff")])
  printed = capsys.readouterr().out
  for part in ("60 common questions", "95 %", "McNemar", "by task:", "note: The protocols differ"):
    assert part in printed
  assert (tmp_path / "diff/compare.html").exists()


def test_the_command_prints_json(tmp_path, capsys):
  two_runs(tmp_path, answer_rows(12), answer_rows(12, seed=1))
  argv = [str(tmp_path / "a"), str(tmp_path / "b"), "--json", "--resamples", "200"]
  evals_compare.main([*argv, "--units", "question"])
  assert json.loads(capsys.readouterr().out)[0]["units"] == "question"


def test_large_sets_are_compared_in_seconds(tmp_path):
  first, second = two_runs(tmp_path, answer_rows(19_140), answer_rows(19_140, seed=1))
  comparison = compare(first, second)
  assert comparison["paired"] == 19_140


@pytest.mark.parametrize("key", ["question", "expected"])
def test_a_question_that_changed_under_its_id_is_left_out(tmp_path, key):
  rows = [answer_row(number, number % 2 == 0) for number in range(6)]
  changed = [dict(row) for row in rows]
  changed[1] |= {key: "another"}
  hashes = dict(checkpoint="ab" * 32, annotations={"data/cups/test.parquet": "ef" * 32})
  comparison = compare(*two_runs(tmp_path, rows, changed, hashes=hashes), FEW)
  assert comparison["paired"] == 5 and comparison["difference"] == 0.0
  assert "1 question changed, or their right answers: left out." in comparison["warnings"]


def test_the_same_files_hold_the_same_questions(tmp_path):
  rows = answer_rows(6)
  reworded = [row | dict(question="Reworded?") for row in rows]
  assert compare(*two_runs(tmp_path, rows, reworded), FEW)["paired"] == 6
