# SPDX-License-Identifier: Apache-2.0
"""Shards are the same bytes however they are written, and nothing is overwritten."""

import json

import pytest

from data_pipelines.synthesis import shards

RECIPE = dict(seed=1, options=dict(minutes=(5, 30)))


def write_numbers(chunk):
  """Lines of a chunk of numbers."""
  lines = b"".join(shards.json_line({"number": number, "text": "é"}) for number in chunk)
  return lines, len(chunk)


def count_letters(chunk):
  """Fails at the chunk that is not a list of numbers."""
  if chunk == ["stop"]:
    raise KeyboardInterrupt
  return write_numbers(chunk)


def plan(chunks=5):
  """Two shards of `chunks` chunks each."""
  first, second = shards.shard_names("train", 2)
  return {
    first: [[n, n + 1] for n in range(chunks)],
    second: [[n] for n in range(chunks)],
  }


def content(folder):
  """All files of a folder by name."""
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write(folder, processes=1, **options):
  """Writes the output of RECIPE."""
  with shards.open_output(folder, RECIPE, **options) as output:
    if not output.is_complete:
      shards.write_shards(output, plan(), write_numbers, processes)
      output.mark_complete(counts=dict(records=15))
  return output


def test_any_number_of_processes_gives_the_same_bytes(tmp_path):
  write(tmp_path / "a")
  write(tmp_path / "b", processes=2)
  assert content(tmp_path / "a") == content(tmp_path / "b")


def test_the_recipe_holds_digests_and_counts(tmp_path):
  write(tmp_path / "a")
  files = content(tmp_path / "a")
  recipe = json.loads(files.pop("recipe.json"))
  assert recipe["complete"] and recipe["counts"] == dict(records=15)
  assert recipe["recipe"] == dict(seed=1, options=dict(minutes=[5, 30]))
  assert {name: facts["bytes"] for name, facts in recipe["shards"].items()} == {
    name: len(data) for name, data in files.items()
  }


def test_a_stopped_output_goes_on_with_its_finished_shards(tmp_path):
  chunks = plan()
  first, second = chunks
  with pytest.raises(KeyboardInterrupt), shards.open_output(tmp_path / "a", RECIPE) as output:
    broken = {first: chunks[first], second: [*chunks[second], ["stop"]]}
    shards.write_shards(output, broken, count_letters, 1)
  assert (tmp_path / "a" / first).exists() and not (tmp_path / "a" / second).exists()
  written = (tmp_path / "a" / first).stat().st_mtime_ns
  write(tmp_path / "a")
  write(tmp_path / "b")
  assert (tmp_path / "a" / first).stat().st_mtime_ns == written
  assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_complete_output_is_left_alone(tmp_path):
  write(tmp_path / "a")
  before = content(tmp_path / "a")
  assert write(tmp_path / "a").is_complete
  assert content(tmp_path / "a") == before


def test_a_shard_that_is_gone_is_written_again(tmp_path):
  write(tmp_path / "a")
  before = content(tmp_path / "a")
  (tmp_path / "a" / shards.shard_names("train", 2)[1]).unlink()
  write(tmp_path / "a")
  assert content(tmp_path / "a") == before


def test_another_recipe_is_refused_with_the_difference(tmp_path):
  write(tmp_path / "a")
  with pytest.raises(ValueError, match=r"seed is 1 there and 2 here.*--force"):
    with shards.open_output(tmp_path / "a", RECIPE | dict(seed=2)):
      pass


def test_a_folder_of_other_files_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("x")
  with pytest.raises(ValueError, match="holds files but no recipe"):
    with shards.open_output(tmp_path, RECIPE):
      pass


def test_a_shard_that_was_changed_is_not_overwritten(tmp_path):
  write(tmp_path / "a")
  path = tmp_path / "a" / shards.shard_names("train", 2)[0]
  path.write_text("mine")
  with pytest.raises(ValueError, match=r"was changed: it has 4 bytes"):
    write(tmp_path / "a")
  assert path.read_text() == "mine"


def test_force_replaces_an_output_and_leaves_other_files(tmp_path):
  write(tmp_path / "a")
  note = tmp_path / "a" / "note.txt"
  note.write_text("mine")
  with shards.open_output(tmp_path / "a", RECIPE | dict(seed=2), force=True) as output:
    shards.write_shards(output, {"x.jsonl": [[1]]}, write_numbers, 1)
    output.mark_complete()
  assert set(content(tmp_path / "a")) == {"note.txt", "recipe.json", "x.jsonl"}


def test_a_recipe_of_anybody_names_no_file_outside(tmp_path):
  (tmp_path / "mine.txt").write_text("x")
  out = tmp_path / "out"
  out.mkdir()
  (out / "recipe.json").write_text(json.dumps(dict(shards={"../mine.txt": dict(bytes=1)})))
  with shards.open_output(out, RECIPE, force=True):
    pass
  assert (tmp_path / "mine.txt").exists()


def test_drawn_shards_take_lines_in_any_order(tmp_path):
  names = shards.shard_names("qa", 2)
  with shards.open_output(tmp_path / "a", RECIPE) as output:
    shards.write_drawn_shards(output, names, [(1, b"a\n"), (0, b"b\n"), (1, b"c\n")])
    output.mark_complete()
  assert (tmp_path / "a" / names[1]).read_bytes() == b"a\nc\n"
  assert output.finished[names[0]].records == 1


def test_inputs_are_the_same_when_they_are_moved(tmp_path):
  for folder in ("x", "y"):
    for name in ("a.json", "b.json"):
      (tmp_path / folder).mkdir(exist_ok=True)
      (tmp_path / folder / name).write_text(name)
  before = shards.input_facts([tmp_path / "x/a.json", tmp_path / "x/b.json"])
  assert before == shards.input_facts([tmp_path / "y/b.json", tmp_path / "y/a.json"])
  assert [facts["bytes"] for facts in before] == [6, 6]
