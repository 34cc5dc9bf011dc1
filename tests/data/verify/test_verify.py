# SPDX-License-Identifier: Apache-2.0
"""A right set passes; every mutation of it is caught by the check that is meant for it."""

import json
import pathlib

import pytest

from data_pipelines.synthesis.verify.folder import verify
from filax.testing.manifests import question_record, write_manifest

ORDER, SCENES, SPAN, FREE, AFTER, BEFORE, COUNT, SHORT, DENSE = range(9)


def failed(path, **options):
  """The checks that failed."""
  return set(verify(path, **options).verdicts.failed)


def test_right_answers_pass(question_set, records):
  result = verify(question_set.write(records))
  assert result.is_good, list(result.verdicts.check_lines())
  assert result.records == len(records)


def test_every_task_is_derived_again(question_set, records):
  verdicts = verify(question_set.write(records)).verdicts
  assert verdicts.made["derived"] >= len(records)
  assert verdicts.made["provenance"] >= len(records)


def answer(number, text):
  """A mutation: another answer."""

  def mutate(records):
    records[number]["conversations"][1]["value"] = text

  return mutate


def replace(number, old, new, turn=0):
  """A mutation: another text in a turn."""

  def mutate(records):
    spoken = records[number]["conversations"][turn]
    assert old in spoken["value"]
    spoken["value"] = spoken["value"].replace(old, new, 1)

  return mutate


def change(number, **keys):
  """A mutation: other keys of a record."""

  def mutate(records):
    records[number].update(keys)

  return mutate


def made(number, **keys):
  """A mutation: another provenance."""

  def mutate(records):
    records[number]["made"].update(keys)

  return mutate


MUTATIONS = {
  "order: answer swapped": (answer(ORDER, "A"), "derived"),
  "order: list permuted": (replace(ORDER, "1. drain the pasta", "1. set the table"), "stem"),
  "order: wrong option is right": (replace(ORDER, "2 -> 3 -> 1", "3 -> 2 -> 1"), "ambiguous"),
  "order: option of other numbers": (replace(ORDER, "1 -> 2 -> 3", "1 -> 2 -> 4"), "pool"),
  "order: other events": (made(ORDER, listed=[3, 1, 2]), "stem"),
  "order: no such event": (made(ORDER, listed=[3, 1, 99]), "provenance"),
  "order: events of another part": (made(ORDER, listed=[3, 1, 6]), "provenance"),
  "places: answer swapped": (answer(SCENES, "D"), "derived"),
  "places: another place": (replace(SCENES, "a cellar", "a garage"), "stem"),
  "span: answer swapped": (answer(SPAN, "A"), "derived"),
  "span: shifted": (replace(SPAN, "20.0 - 28.0", "20.5 - 28.5"), "derived"),
  "span: wrong option invented": (replace(SPAN, "40.0 - 48.0", "50.0 - 55.0"), "pool"),
  "span: options overlap": (replace(SPAN, "30.0 - 38.0", "20.0 - 28.0"), "options"),
  "span: stem of another event": (replace(SPAN, "stir the sauce", "set the table"), "stem"),
  "span: what is shown begins later": (change(SPAN, start=0.5), "provenance"),
  "span: beyond the video": (change(COUNT, end=81.0), "times"),
  "free span: shifted": (replace(FREE, "28.0", "29.0", turn=1), "derived"),
  "after: answer swapped": (answer(AFTER, "A"), "derived"),
  "after: X copied": (replace(AFTER, "B. drain the pasta", "B. stir the sauce"), "neighbour"),
  "after: X is an option": (replace(AFTER, "A. set the table", "A. stir the sauce"), "neighbour"),
  "after: option from elsewhere": (replace(AFTER, "A. set the table", "A. fly a kite"), "pool"),
  "after: other event": (made(AFTER, events=[3, 4]), "stem"),
  "before: answer swapped": (answer(BEFORE, "D"), "derived"),
  "count: answer swapped": (answer(COUNT, "D"), "derived"),
  "count: numbers with a hole": (replace(COUNT, "D. 3", "D. 7"), "pool"),
  "count: another label": (made(COUNT, label="fly a kite"), "stem"),
  "options: one twice": (replace(AFTER, "A. set the table", "A. Drain the pasta."), "options"),
  "options: one empty": (replace(AFTER, "A. set the table", "A. "), "options"),
  "options: answer is none": (answer(AFTER, "E"), "right_option"),
  "short caption: of another part": (answer(SHORT, "Somebody sleeps all day."), "derived"),
  "dense caption: time shifted": (replace(DENSE, "10 - 18", "13 - 18", turn=1), "derived"),
  "dense caption: steps back": (replace(DENSE, "10 - 18", "10 - 8", turn=1), "times"),
  "dense caption: text of another event": (replace(DENSE, "stir", "boil", turn=1), "derived"),
  "dense caption: line missing": (made(DENSE, events=[0, 1, 2, 3, 4]), "derived"),
  "id: one twice": (change(ORDER, id="q-AbCdEfGhIjK-1"), "unique_id"),
  "media: outside of the root": (change(SHORT, video="../AbCdEfGhIjK.mp4"), "media_path"),
  "media: absolute": (change(SHORT, video="/a/AbCdEfGhIjK.mp4"), "media_path"),
  "media: of another video": (change(SHORT, video="videos/ZZZZZZZZZZZ.mp4"), "provenance"),
  "track: unknown": (made(SHORT, track="ZZZZZZZZZZZ"), "provenance"),
  "task: unknown": (made(SHORT, task="riddle"), "provenance"),
  "record: no answer": (answer(SHORT, " "), "format"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(question_set, records, name):
  mutate, check = MUTATIONS[name]
  mutate(records)
  assert check in failed(question_set.write(records))


def test_a_failure_names_file_line_and_record(question_set, records):
  answer(AFTER, "A")(records)
  verdicts = verify(question_set.write(records)).verdicts
  place = str(verdicts.examples["derived"][0])
  assert place.startswith(f"train-00000-of-00001.jsonl:{AFTER + 1} (q-AbCdEfGhIjK-4): derived:")


def test_an_incomplete_annotation_gives_no_counts(question_set, records, make_track):
  track = make_track() | dict(exhaustive=False)
  assert failed(question_set.write(records, [track])) == {"provenance"}


def test_unbalanced_letters_are_caught(question_set, records):
  copies = [records[AFTER] | dict(id=str(number)) for number in range(3)]
  assert failed(question_set.write(copies)) == {"letters"}


def test_a_changed_shard_is_caught(question_set, records):
  path = question_set.write(records)
  shard = path / "train-00000-of-00001.jsonl"
  shard.write_bytes(shard.read_bytes().replace(b"Describe it.", b"Describe it!"))
  assert failed(path) == {"recipe"}


def test_a_missing_record_is_caught(question_set, records):
  path = question_set.write(records)
  shard = path / "train-00000-of-00001.jsonl"
  shard.write_bytes(b"".join(shard.read_bytes().splitlines(keepends=True)[:-1]))
  assert failed(path) == {"recipe"}


def test_a_file_that_the_recipe_does_not_name_is_caught(question_set, records):
  path = question_set.write(records)
  (path / "train-00001-of-00001.jsonl").write_text("{}\n")
  assert failed(path) == {"recipe"}


def test_splits_share_no_video_under_any_name(question_set, records, make_records):
  held_out = make_records("ytb_AbCdEfGhIjK")
  for number, record in enumerate(held_out):
    record["id"] = f"held-{number}"
    record["video"] = "other/ytb_AbCdEfGhIjK.mkv"
  assert "split" in failed(question_set.write(records, held_out=held_out))


def test_other_videos_may_be_held_out(question_set, records, make_records, make_track):
  tracks = [make_track(), make_track("ZbCdEfGhIjK")]
  held_out = make_records("ZbCdEfGhIjK")
  assert not failed(question_set.write(records, tracks, held_out))


def test_held_out_media_are_not_trained_on(question_set, records):
  path = question_set.write(records)
  listed = {"media": "elsewhere/v_AbCdEfGhIjK.webm", "error": "held out", "origin": ""}
  (path / "held_out_media.jsonl").write_text(json.dumps(listed) + "\n")
  assert failed(path) == {"split"}


def test_a_damaged_list_of_held_out_media_is_caught(question_set, records):
  path = question_set.write(records)
  (path / "held_out_media.jsonl").write_text('{"media": "a.mp4"}\n{"media": "b.m')
  assert failed(path) == {"format"}


def test_excluded_videos_are_caught(question_set, records, tmp_path):
  path = question_set.write(records)
  listed = tmp_path / "benchmark.txt"
  listed.write_text("v_AbCdEfGhIjK.mp4\n")
  assert failed(path, exclude=[listed]) == {"excluded"}


def test_a_broken_track_is_caught(question_set, records, make_track):
  track = make_track()
  track["events"][6]["t1"] = 90.0
  assert "track" in failed(question_set.write(records, [track]))


def test_two_processes_find_the_same(question_set, records):
  answer(AFTER, "A")(records)
  path = question_set.write(records, held_out=[records[0] | dict(id="other")])
  assert verify(path, processes=2).as_dict() == verify(path).as_dict()


def test_a_folder_without_a_recipe_is_refused(tmp_path):
  with pytest.raises(ValueError, match="has no recipe"):
    verify(tmp_path)


def test_a_track_of_two_clips_is_derived_from_its_scenes(question_set, records, make_track):
  track = make_track()
  track["media"] = [
    dict(media="clips/AbCdEfGhIjK.1.mp4", t0=5.0, t1=45.0),
    dict(media="clips/AbCdEfGhIjK.2.mp4", t0=0.0, t1=40.0, at=40.0),
  ]
  record = records[SPAN]
  for key in ("video", "start", "end"):
    del record[key]
  record["scenes"] = [
    dict(media="clips/AbCdEfGhIjK.1.mp4", t0=5.0, t1=45.0, at=0),
    dict(media="clips/AbCdEfGhIjK.2.mp4", t0=0.0, t1=20.0, at=40.0),
  ]
  path = question_set.write([record], [track])
  assert not failed(path)
  record["scenes"][0]["t0"] = 6.0
  assert "times" in failed(question_set.write([record], [track]))


PUBLIC = {
  "after X answered by X": (
    question_record(
      "<video>\nWhat happens after mix the dough?\n(A) bake the bread\n(B) mix the dough", "(B)"
    ),
    {"answer_in_stem", "neighbour"},
  ),
  "after X answered by X, free": (
    question_record('<video>\nWhat does the person do after "whisk"?', "whisk"),
    {"neighbour"},
  ),
  "answer in the question": (
    question_record("<image>\nA man bakes carrot cake. What does he bake?", "Carrot cake."),
    {"answer_in_stem"},
  ),
  "options twice": (
    question_record("<image>\nWhat is it?\nA. a cat\nB. a dog\nC. A cat.", "A"),
    {"options"},
  ),
  "no such option": (question_record("<image>\nWhat is it?\nA. a cat\nB. a dog", "C"),
                     {"right_option"}),
  "right": (question_record("<image>\nWhat is it?\nA. a cat\nB. a dog", "B. a dog"), set()),
  "right, in words": (
    question_record("<image>\nWhat is it?\n(A) a cat\n(B) a dog", "A dog"),
    set(),
  ),
  "free": (question_record("<image>\nWhat is it?", "A big dog."), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_defects_of_public_sets_are_caught_without_provenance(tmp_path, name):
  record, checks = PUBLIC[name]
  path = write_manifest(tmp_path / "set.json", [record | dict(video="a.mp4")])
  assert failed(path) == checks


def test_real_multiple_choice_of_others_is_read(tmp_path):
  turns = [
    {"from": "human", "value": "<image>\nWhich colour?\nA. red\nB. blue\nPlease respond with only "
     "the letter of the correct answer."},
    {"from": "gpt", "value": "B."},
    {"from": "human", "value": "And which shape?\n(A) a ring\n(B) a star\nOnly give the best "
     "option."},
    {"from": "gpt", "value": "(A) a ring"},
  ]  # fmt: skip
  path = write_manifest(tmp_path / "set.jsonl", [dict(video="a.mp4", conversations=turns)])
  result = verify(path)
  assert result.questions == 2
  assert result.verdicts.made["right_option"] == 2
  assert result.is_good


def test_verification_shares_no_code_with_the_builders():
  folder = pathlib.Path(verify.__code__.co_filename).parent
  for path in (*folder.glob("*.py"), *(folder.parent / "blind").glob("*.py")):
    assert "synthesis.longvid" not in path.read_text()
    assert "question_templates" not in path.read_text()
