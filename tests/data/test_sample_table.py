# SPDX-License-Identifier: Apache-2.0
"""Samples, facts of media and rows lie on disk; what is read back is what was there."""

import contextlib
import json
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap

import pytest

from data_pipelines import chunk_pool
from data_pipelines.chunk_pool import ChunkPool, ChunkProcessEnded
from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import RecordError, located_records, select_records
from data_pipelines.media.index import MediaIndex
from data_pipelines.media.planned_media import probe_media
from data_pipelines.media.probe import probe
from data_pipelines.packing import corpus, demand_table, table_builder
from data_pipelines.packing.corpus import read_corpus
from filax import files
from filax.testing import clips, corpora, manifests


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
  monkeypatch.setattr(files, "_reported", set())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = corpora.write_corpus(tmp_path_factory.mktemp("corpus"))
  records = corpora.write_media(folder)
  records.insert(3, dict(conversations=[]))  # A bad record in the middle.
  manifests.write_manifest(folder / "manifest.json", records * 5)
  return folder


def data(folder, strategy="all", **changes):
  train = ((str(folder / "manifest.json"), strategy),)
  return corpora.data_config(folder, **dict(dict(train=train), **changes))


def chosen_samples(folder, strategy):
  """The samples that a strategy takes of a manifest, each parsed by itself."""
  path = str(folder / "manifest.json")
  rows = list(located_records(path))
  samples = []
  for number in select_records(len(rows), strategy, seed=3):
    place = f"{path}:{rows[number].place}"
    with contextlib.suppress(RecordError):
      samples.append(llava.parse_record(rows[number].record, place, str(folder)))
  return samples


@pytest.mark.parametrize("strategy", ["all", "first:7", "end:30%", "random:20"])
@pytest.mark.parametrize("kept", [False, True])
def test_the_table_holds_the_samples_of_the_manifest(strategy, kept, folder, tmp_path):
  expected = chosen_samples(folder, strategy)
  mixture = read_corpus(data(folder, strategy), 3, str(tmp_path) if kept else "")
  assert list(mixture.samples) == expected
  assert list(pickle.loads(pickle.dumps(mixture.samples))) == expected


def test_a_manifest_that_cannot_be_found_is_named_with_its_setting(folder):
  loop = folder / "loop.json"
  loop.symlink_to(loop)
  other = dict(data(folder), train=((str(loop), "all"),))
  with pytest.raises(ValueError, match=r"manifest .*loop.json cannot .* config\.data\.train"):
    read_corpus(other, 0, "")
  loop.unlink()


def test_media_are_listed_in_the_order_of_their_first_use(folder):
  mixture = read_corpus(data(folder), 0, "")
  media = {}
  for sample in mixture.samples:
    for timeline in sample.media:
      media.update(dict.fromkeys(scene.media for scene in timeline))
  assert mixture.media == list(media)


def test_the_second_start_reads_no_manifest(folder, tmp_path, monkeypatch):
  first = read_corpus(data(folder), 0, str(tmp_path))
  monkeypatch.setattr(table_builder, "record_places", None)
  second = read_corpus(data(folder), 0, str(tmp_path))
  assert list(second.samples) == list(first.samples)
  assert [str(bad) for bad in second.report.bad] == [str(bad) for bad in first.report.bad]


def test_excluded_samples_are_counted(folder, tmp_path):
  listed = tmp_path / "listed.jsonl"
  medium = str(folder / "a.mp4")
  listed.write_text(json.dumps(dict(media=medium, error="", origin="")) + "\n")
  mixture = read_corpus(data(folder, exclude=str(listed)), 0, "")
  assert mixture.excluded == 4 * 5 and medium not in mixture.media


def test_a_damaged_column_is_made_anew(folder, tmp_path, capsys):
  expected = list(read_corpus(data(folder), 0, str(tmp_path)).samples)
  (column,) = tmp_path.glob("samples-*/start.npy")
  content = bytearray(column.read_bytes())
  content[-9] ^= 4
  column.write_bytes(content)
  assert list(read_corpus(data(folder), 0, str(tmp_path)).samples) == expected
  assert str(column) in capsys.readouterr().err


def test_a_host_without_locks_keeps_what_another_wrote_meanwhile(folder, tmp_path, monkeypatch):
  read_facts = corpus.read_facts
  asked = []

  def answer_late(path, label):
    asked.append(path)
    return None if len(asked) == 1 else read_facts(path, label)

  first = read_corpus(data(folder), 0, str(tmp_path))
  (column,) = tmp_path.glob("samples-*/start.npy")
  identity = os.stat(column).st_ino
  monkeypatch.setattr(corpus, "read_facts", answer_late)
  second = read_corpus(data(folder), 0, str(tmp_path))
  assert os.stat(column).st_ino == identity, "a table that others may have mapped was replaced"
  assert list(second.samples) == list(first.samples)


def test_a_manifest_that_changes_under_a_run_is_named(tmp_path):
  folder = corpora.write_corpus(tmp_path)
  mixture = read_corpus(data(folder), 0, str(tmp_path / "cache"))
  manifests.write_manifest(folder / "manifest.json", corpora.write_media(folder)[:2])
  with pytest.raises(ValueError, match=r"manifest\.json:\d+ .*the manifest has changed"):
    mixture.samples[0]


def test_a_manifest_that_is_replaced_after_the_first_read_stays_readable(tmp_path):
  folder = corpora.write_corpus(tmp_path)
  samples = read_corpus(data(folder), 0, str(tmp_path / "cache")).samples
  expected = list(samples)
  with files.write_atomically(folder / "manifest.json") as file:
    file.write(b"[]")
  assert list(samples) == expected


def test_many_processes_make_the_same_plan(folder, tmp_path, monkeypatch):
  alone = corpora.open_pipeline(folder, cache=str(tmp_path / "alone"))
  for module, size in ((table_builder, 4), (demand_table, 3)):
    monkeypatch.setattr(module, "CHUNK", size)
    monkeypatch.setattr(module, "_MANY", size)
    monkeypatch.setattr(module, "default_processes", lambda: 2)
  together = corpora.open_pipeline(folder, cache=str(tmp_path / "together"))
  assert together.fingerprint == alone.fingerprint
  assert list(together.plan.samples) == list(alone.plan.samples)
  assert together.plan.report == alone.plan.report


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_table(folder, tmp_path):
  program = textwrap.dedent(
    """
    import sys
    from filax.testing import corpora
    import pathlib
    pipe = corpora.open_pipeline(pathlib.Path(sys.argv[1]), cache=sys.argv[2])
    print(pipe.fingerprint, len(pipe.plan.samples))
    """
  )
  command = [sys.executable, "-c", program, str(folder), str(tmp_path)]
  running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
  printed = {process.communicate()[0] for process in running}
  assert len(printed) == 1 and printed.pop().strip().endswith(" 45")
  for kind in ("samples-*/meta.json", "media-*/meta.json", "rows-*/meta.json"):
    assert len(list(tmp_path.glob(kind))) == 1, kind


def test_epochs_that_vary_are_planned_and_kept(folder, tmp_path):
  times = dict(
    time_prompt="llava",
    sampling=dict(name="uniform", frames=6, phase="random"),
    rows=((12, 4, 400, 4),),
  )
  alone = corpora.open_pipeline(folder, **times)
  kept = corpora.open_pipeline(folder, cache=str(tmp_path), **times)
  again = corpora.open_pipeline(folder, cache=str(tmp_path), **times)
  count = alone.plan.planner.first_row(3)
  expected = [alone.row(number) for number in range(count)]
  assert [kept.row(number) for number in range(count)] == expected
  assert [again.row(number) for number in range(count)] == expected


def test_facts_of_media_are_those_of_probing(tmp_path):
  media = [
    clips.write_video(tmp_path / "a.mp4", 20),
    str(tmp_path / "away.mp4"),
    clips.write_picture(tmp_path / "c.png"),
    clips.write_picture_folder(tmp_path / "b", 3),
  ]
  for kept in ("", str(tmp_path / "cache")):
    table = probe_media(media, MediaIndex(progress=None), kept)
    assert dict(table) == {name: probe(name) for name in media}
    assert dict(pickle.loads(pickle.dumps(table))) == dict(table)
    assert table.unreadable.tolist() == [False, True, False, False]
  with pytest.raises(KeyError):
    table["another.mp4"]


def test_media_that_did_not_change_are_not_opened_again(tmp_path, monkeypatch):
  media = [clips.write_video(tmp_path / "a.mp4", 20), clips.write_picture(tmp_path / "c.png")]
  cache = str(tmp_path / "cache")
  before = probe_media(media, MediaIndex(progress=None), cache)
  clips.write_video(media[0], 30)
  os.utime(media[0], (1, 1))
  index = MediaIndex(progress=None)
  asked = []
  each = index.each
  monkeypatch.setattr(index, "each", lambda names: asked.extend(names) or each(names))
  after = probe_media(media, index, cache)
  assert asked == media[:1] and after[media[0]].frames == 30
  assert before[media[0]].frames == 20, "a table that is in use must not change"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_pool_keeps_the_order_and_passes_errors_on(processes):
  with ChunkPool((2).__pow__, processes) as pool:
    assert list(pool.map(range(40))) == [2**number for number in range(40)]
  with ChunkPool(int, processes) as pool, pytest.raises(ValueError, match="invalid literal"):
    list(pool.map(["1", "two", "3"]))


def test_a_process_that_is_killed_is_named():
  with ChunkPool(os._exit, 2) as pool, pytest.raises(ChunkProcessEnded, match="ended from outside"):
    list(pool.map([9, 9]))


def test_a_script_without_a_guard_can_use_a_pool(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(
    "print('once')\n"
    "from data_pipelines.chunk_pool import ChunkPool\n"
    "print(list(ChunkPool(abs, 2).map([-1, -2, -3])))\n"
  )
  root = pathlib.Path(chunk_pool.__file__).parents[1]
  environment = dict(os.environ, PYTHONPATH=str(root))
  done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
  assert done.stdout == "once\n[1, 2, 3]\n", done.stderr
