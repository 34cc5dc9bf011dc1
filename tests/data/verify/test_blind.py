# SPDX-License-Identifier: Apache-2.0
"""Attacks stay at chance on fair questions, and each finds the leak that is meant for it."""

import json

import numpy as np
import pytest

from data_pipelines.synthesis.blind.attack_set import attack_questions
from data_pipelines.synthesis.blind.figure import draw_scores
from data_pipelines.synthesis.verify.blind_pool import BlindPool, BlindQuestion
from data_pipelines.synthesis.verify.folder import verify
from filax.cli import data
from filax.testing.manifests import question_record, write_manifest

pytestmark = pytest.mark.slow

COUNT = 400
MARGIN = 0.02  # Of fair questions, above 3 sigma.
VERBS = ("cut", "wash", "fry", "boil", "serve", "peel", "mix", "pour", "bake", "plate")
FOODS = ("onion", "rice", "carrot", "bean", "fish", "leek", "egg", "corn", "pea", "yam")


def draw_label(rng):
  """A random event."""
  return f"{rng.choice(VERBS)} the {rng.choice(FOODS)} {rng.choice(FOODS)}"


def questions(make, count=COUNT, seed=0):
  """Questions of 100 videos. make: rng -> (stem, right option, wrong options, list)."""
  rng = np.random.default_rng(seed)
  drawn = []
  for number in range(count):
    stem, right, wrong, listed = make(rng)
    place = int(rng.integers(len(wrong) + 1))
    options = [*wrong[:place], right, *wrong[place:]]
    key = f"video{number % 100}"
    drawn.append(BlindQuestion(key, stem, tuple(options), place, tuple(listed), 100.0))
  return drawn


def above(make, margin=MARGIN, **options):
  """The attacks that exceed chance by more than 3 sigma + margin."""
  group = attack_questions("task", "source", questions(make, **options))
  limit = group.chance + group.sigmas + margin
  return {score.attack for score in group.scores if score.score > limit}


def choice(rng):
  """An event next to another one, all at random."""
  labels = []
  while len(labels) < 5:
    label = draw_label(rng)
    if label not in labels:
      labels.append(label)
  return f'What happens after "{labels[0]}"?', labels[1], labels[2:], ()


def fair_order(rng):
  """Three random wrong orders of events in a random order."""
  orders = [" -> ".join(map(str, 1 + rng.permutation(4))) for _ in range(4)]
  labels = [draw_label(rng) for _ in range(4)]
  return "Sort.", orders[0], orders[1:], labels


def fair_span(rng):
  """Four random spans."""
  spans = []
  for start in rng.uniform(0, 80, 4):
    spans.append(f"{start:.1f} - {start + rng.uniform(2, 20):.1f} seconds")
  return f'When does this happen: "{draw_label(rng)}"?', spans[0], spans[1:], ()


def fair_number(rng):
  """A number at any place of a window of four."""
  low = int(rng.integers(0, 5))
  numbers = [str(number) for number in low + rng.permutation(4)]
  return "How often?", numbers[0], numbers[1:], ()


@pytest.mark.parametrize("make", [choice, fair_order, fair_span, fair_number])
def test_fair_questions_stay_at_chance(make):
  assert not above(make)


def copied_label(rng):
  """The released defect: what happens after X is X."""
  stem, _, wrong, listed = choice(rng)
  return stem, stem.split('"')[1], wrong, listed


def wordy_answer(rng):
  """The right option says more."""
  stem, right, wrong, listed = choice(rng)
  return stem, f"{right} and then slowly some more of it", wrong, listed


def perturbed(rng):
  """Wrong options are the right one with a word changed."""
  stem, right, _, _ = choice(rng)
  wrong = []
  for place in (0, 2, 3):
    words = right.split()
    words[place] = f"something{place}"
    wrong.append(" ".join(words))
  return stem, right, wrong, ()


def next_numbers(rng):
  """A window n - 1 .. n + 2 around the right number."""
  number = int(rng.integers(2, 6))
  return "How often?", str(number), [str(number + step) for step in (-1, 1, 2)], ()


def middle_numbers(rng):
  """Numbers on both sides of the right one."""
  number = int(rng.integers(3, 6))
  return "How often?", str(number), [str(number + step) for step in (-2, -1, 1)], ()


def smallest(rng):
  """The right number is always the smallest."""
  number = int(rng.integers(2, 6))
  return "How often?", str(number), [str(number + step) for step in (1, 2, 3)], ()


def sorted_list(rng):
  """The list is in the right order."""
  _, _, wrong, labels = fair_order(rng)
  return "Sort.", "1 -> 2 -> 3 -> 4", wrong, labels


def first_span(rng):
  """The right span begins first."""
  stem, right, wrong, listed = fair_span(rng)
  spans = sorted([right, *wrong], key=start_of)
  return stem, spans[0], spans[1:], listed


def start_of(span):
  """The first number of a span."""
  return float(span.split()[0])


def longest_span(rng):
  """The right span is much longer."""
  stem, _, wrong, listed = fair_span(rng)
  start = rng.uniform(0, 60)
  return stem, f"{start:.1f} - {start + 30:.1f} seconds", wrong, listed


def usual_answers(rng):
  """One verb is right whenever a food is asked about."""
  stem, _, wrong, listed = choice(rng)
  wrong = [text.replace("serve", "cut") for text in wrong]
  return stem, f"serve the {rng.choice(FOODS)} {rng.choice(FOODS)}", wrong, listed


def usual_order(rng):
  """Verbs have an order in the world, and wrong orders are random."""
  verbs = np.sort(rng.permutation(len(VERBS))[:4])
  listed = rng.permutation(4)
  labels = [f"{VERBS[verbs[place]]} the {rng.choice(FOODS)}" for place in listed]
  right = " -> ".join(str(1 + place) for place in np.argsort(listed))
  _, _, wrong, _ = fair_order(rng)
  return "Sort.", right, [order for order in wrong if order != right], labels


def openers(rng):
  """What begins a video tells when it happens."""
  stem, _, _, _ = fair_span(rng)
  is_first = bool(rng.integers(2))
  starts = rng.permutation(np.array([5.0, 35.0, 55.0, 85.0]) + rng.uniform(-4, 4, 4))
  right = int(np.argmin(starts) if is_first else np.argmax(starts))
  spans = [f"{start:.1f} - {start + 8:.1f} seconds" for start in starts]
  word = "begins" if is_first else "concludes"
  return f"When: the video {word}? {stem}", spans.pop(right), spans, ()


LEAKS = {
  copied_label: "most like the question",
  wordy_answer: "longest option",
  perturbed: "nearest to the others",
  next_numbers: "middle number",
  middle_numbers: "middle number",
  smallest: "smallest number",
  sorted_list: "order of the list",
  first_span: "earliest span",
  longest_span: "longest span",
  usual_answers: "words",
  usual_order: "order by words",
  openers: "time by words",
}


@pytest.mark.parametrize("make", LEAKS)
def test_a_leak_is_found_by_its_attack(make):
  assert LEAKS[make] in above(make, margin=0.1)


def test_the_usual_order_is_found_by_affixes_too():
  assert "order by affixes" in above(usual_order, margin=0.1)


def test_always_the_same_letter_is_found():
  drawn = [row for row in questions(choice) if row.right == 2]
  group = attack_questions("task", "source", drawn)
  assert "letter C" in {score.attack for score in group.scores if score.is_above}


def test_a_learnt_attack_needs_other_videos():
  drawn = questions(usual_answers, count=30)[:15]
  group = attack_questions("task", "source", drawn)
  assert "words" not in {score.attack for score in group.scores}


def test_chance_and_sigma_are_those_of_guessing():
  group = attack_questions("task", "source", questions(choice))
  assert group.chance == 0.25
  assert group.sigmas == pytest.approx(3 * np.sqrt(0.25 * 0.75 / COUNT))


def manifest(path, make):
  """A manifest of questions with options in the turn."""
  records = []
  for number, row in enumerate(questions(make, count=300)):
    lines = [f"{chr(65 + place)}. {option}" for place, option in enumerate(row.options)]
    text = "\n".join(["<image>", row.stem, *lines])
    records.append(question_record(text, chr(65 + row.right), video=f"video{number % 60}.mp4"))
  return write_manifest(path, records)


def test_a_pool_is_the_same_for_any_order_of_files(tmp_path):
  path = manifest(tmp_path / "set.json", choice)
  pool = verify(path, blind=50).pool
  halves = []
  records = json.loads((tmp_path / "set.json").read_text())
  for name, part in (("b.json", records[100:]), ("a.json", records[:100])):
    write_manifest(tmp_path / name, part)
    halves.append(verify(tmp_path / name, blind=50).pool)
  merged = BlindPool(50)
  for half in halves:
    merged.merge(half)
  assert merged.groups() == pool.groups()
  assert len(merged.groups()["", ""]) == 50


def test_the_command_reports_and_draws(tmp_path, capsys):
  path = manifest(tmp_path / "set.json", copied_label)
  code = data.main(["verify", path, "--blind", "--out", str(tmp_path / "out")])
  text = capsys.readouterr().out
  assert code == 1
  assert "most like the question" in text and "ABOVE" in text
  assert (tmp_path / "out/blind.png").stat().st_size > 5000
  report = json.loads((tmp_path / "out/verify.json").read_text())
  assert not report["blind"]["good"]


def test_the_command_prints_json(tmp_path, capsys):
  path = manifest(tmp_path / "set.json", choice)
  assert data.main(["verify", path, "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["questions"] == 300


def test_a_set_without_choices_is_no_error(tmp_path, capsys):
  path = write_manifest(tmp_path / "set.json", [question_record()])
  assert data.main(["verify", path, "--blind"]) == 0
  assert "no multiple-choice questions" in capsys.readouterr().out


def test_a_figure_has_a_panel_for_every_group(tmp_path):
  result = verify(manifest(tmp_path / "set.json", choice), blind=100)
  from data_pipelines.synthesis.blind.attack_set import attack_pool

  draw_scores(attack_pool(result.pool), tmp_path / "blind.png")
  assert (tmp_path / "blind.png").read_bytes().startswith(b"\x89PNG")
