# SPDX-License-Identifier: Apache-2.0
"""Sources whose raw records several processes parse: the same tracks, reports and bytes."""

import hashlib
import json
import os
import random
import signal

import pytest

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.synthesis.longvid.factory import LongVidOptions, write_longvid
from data_pipelines.synthesis.longvid.track_files import TrackInput
from data_pipelines.synthesis.sources import registry
from data_pipelines.synthesis.sources.divided import (
  DividedReading,
  ParsedRecords,
  taken_records,
  tracks_in_order,
)
from data_pipelines.synthesis.sources.track_report import TrackReport
from filax.cli import main as command
from tests.data.longvid_tracks import cooking_track, write_tracks_file
from tests.data.test_sources import PANDA, panda_row, write_table

pytestmark = pytest.mark.slow

TRACKS = 300


def spoilt(path, seed):
  """The file with a few bytes of it replaced."""
  draw = random.Random(seed)
  content = bytearray(path.read_bytes())
  for _ in range(20):
    place = draw.randrange(len(content))
    content[place : place + draw.choice([1, 5, 200])] = draw.choice([b"", b"\n", b'"', b"}\n{"])
  path.write_bytes(bytes(content))
  return path


def panda_file(path):
  rows = [PANDA]
  for number in range(200):
    spans = [(20 * clip, 20 * clip + 16) for clip in range(3 + number % 4)]
    rows.append(panda_row(f"video{number % 150:06d}", spans))
  return spoilt(write_table(path / "panda70m_training_full.csv", rows), 1)


def howto_file(path):
  rows = [["video", "clips", "text"]]
  for number in range(200):
    clips = []
    for clip in range(number % 7):
      span = f"0:{clip:02d}:00 - 0:{clip:02d}:40"
      clips.append({"clip": span, "caption": f"They chop {clip}."})
    rows.append([f"video{number % 150:06d}.mp4", json.dumps(clips), "a text"])
  return spoilt(write_table(path / "howto.tsv", rows, delimiter="\t"), 2)


def own_file(path):
  tracks = [cooking_track(number) for number in range(TRACKS)]
  return spoilt(write_tracks_file(path / "tracks.jsonl", tracks), 3)


FILES = dict(
  panda70m=panda_file, panda70m_clips=panda_file, howto_interlink=howto_file, track_files=own_file
)


def longvid_input(name, path, *, is_divided):
  source = registry.find_source(name)
  divide = source.divide_reading if is_divided else None
  return TrackInput(name, (str(path),), "", source.read_tracks, source.licence, divide)


def digests(folder):
  """File -> sha256, of everything but pictures."""
  table = {}
  for path in sorted(folder.glob("*.*")):
    table[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return table


def test_these_are_all_divided_sources():
  divided = {name for name, source in registry.all_sources().items() if source.divide_reading}
  assert divided == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_processes_report_what_one_reports(name, tmp_path):
  path = str(FILES[name](tmp_path))
  divide = registry.find_source(name).divide_reading
  alone = TrackReport()
  tracks = list(tracks_in_order(divide([path], "", alone), alone))
  together = TrackReport()
  reading = divide([path], "", together)
  parsed = []
  with ChunkPool(reading.parse, 2) as pool:
    for records in taken_records(pool.map(reading.batches), together):
      parsed += records.tracks
  assert len(tracks) > 20 and alone.bad
  assert parsed == tracks
  assert together == alone


def test_divided_sources_give_the_bytes_of_undivided_ones(tmp_path):
  options = LongVidOptions(shards=3)
  outputs = []
  for is_divided, processes in ((False, 1), (True, 1), (True, 2)):
    inputs = []
    for name in ("panda70m", "howto_interlink", "track_files"):
      folder = tmp_path / name
      folder.mkdir(exist_ok=True)
      inputs.append(longvid_input(name, FILES[name](folder), is_divided=is_divided))
    out = tmp_path / f"out-{is_divided}-{processes}"
    write_longvid(inputs, out, options, processes=processes)
    outputs.append(digests(out))
  assert outputs[0] == outputs[1] == outputs[2]
  assert len(outputs[0]) == 2 * 3 + 6


def killed(batch):
  """A parser whose process is ended from outside."""
  if batch == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  return []


def dividing_to_be_killed(files, media_root, report):
  return DividedReading(iter(range(8)), killed)


def broken(batch):
  return [ParsedRecords([{}], [], {})]


def dividing_to_be_broken(files, media_root, report):
  return DividedReading(iter(range(8)), broken)


@pytest.mark.parametrize(
  ("divide", "error", "words"),
  [
    (dividing_to_be_killed, OSError, "ended from outside"),
    (dividing_to_be_broken, KeyError, "source"),
  ],
)
def test_a_process_that_ends_is_one_error(divide, error, words, tmp_path):
  path = write_tracks_file(tmp_path / "tracks.jsonl", [cooking_track(1)])
  source = TrackInput("ours", (str(path),), "", None, divide_reading=divide)
  with pytest.raises(error, match=words):
    write_longvid([source], tmp_path / "out", LongVidOptions(shards=2), processes=2)
  assert not list((tmp_path / "out").glob("tracks-*.jsonl"))


@pytest.mark.parametrize(
  ("content", "reason"),
  [("[]", "there is no record"), ('{"key": 1}\n', "1 bad records, the first: ")],
)
def test_sources_without_a_track_are_one_sentence_and_2(content, reason, tmp_path, capsys):
  path = tmp_path / "tracks.jsonl"
  path.write_text(content)
  argv = ["data", "longvid", "--source", f"track_files={path}", "--out", str(tmp_path / "out")]
  assert command.main(argv) == 2
  out, err = capsys.readouterr()
  assert not out and err.count("\n") == 1
  assert "No source has a track to take" in err and reason in err
