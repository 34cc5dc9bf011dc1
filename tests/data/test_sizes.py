# SPDX-License-Identifier: Apache-2.0
"""Sizes that are kept on disk are those that would be measured, whatever lies there."""

import io
import types

import numpy as np
import pytest

from data_pipelines.packing.demand import SampleDemand
from data_pipelines.packing.demand_table import DemandTable
from filax import files
from filax.testing import interrupted

SAMPLES = tuple(range(12))
HEADERS = {  # What an .npy file may say of itself; the reader of numpy raises on each in its way.
  "bomb": b"{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976, 3), }",
  "token": b"{'descr': '<i8', 'fortran_order': False, 'shape': (12, 3, }",
  "syntax": b"{'descr': '<i8' 'fortran_order' False",
  "nested": b"(" * 2000,
  "object": b"{'descr': '|O', 'fortran_order': False, 'shape': (12, 3), }",
  "other": b"{'descr': '<f8', 'fortran_order': False, 'shape': (12, 3), }",
}


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
  monkeypatch.setattr(files, "_reported", set())


class Composer:
  """Three columns that depend on the sample and the epoch; counts how often it is asked."""

  vary = True
  stages = 0

  def __init__(self):
    self.asked = 0

  def demands(self, samples: list[int], first: int, epoch: int) -> list[SampleDemand]:
    self.asked += len(samples)
    measured = []
    for number, sample in enumerate(samples, first):
      measured.append(SampleDemand(sample * 1000 + epoch, number, 7))
    return measured


def sizes(folder, digest: str = "d" * 64):
  """(sizes of epoch 1, how many samples were measured for them)."""
  composer = Composer()
  array = DemandTable(composer, SAMPLES, str(folder), digest)(1).columns()
  return types.SimpleNamespace(array=array, asked=composer.asked)


@pytest.fixture
def kept(tmp_path):
  """The file that holds the sizes of epoch 1, and what it holds."""
  expected = sizes(tmp_path)
  assert expected.asked == len(SAMPLES)
  assert sizes(tmp_path).asked == 0
  (path,) = tmp_path.iterdir()
  return types.SimpleNamespace(path=path, expected=expected.array, content=path.read_bytes())


def check_rebuilt(kept, capsys):
  again = sizes(kept.path.parent)
  np.testing.assert_array_equal(again.array, kept.expected)
  assert again.array.dtype == kept.expected.dtype and again.asked == len(SAMPLES)
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and str(kept.path) in line
  assert kept.path.read_bytes() == kept.content


def test_flipped_bytes_are_measured_again(kept, capsys):
  for place in range(0, len(kept.content), 3):
    damaged = bytearray(kept.content)
    damaged[place] ^= 1 << place % 8
    kept.path.write_bytes(damaged)
    check_rebuilt(kept, capsys)


def test_every_cut_is_measured_again(kept, capsys):
  for length in range(0, len(kept.content), 5):
    kept.path.write_bytes(kept.content[:length])
    check_rebuilt(kept, capsys)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_measured_again(name, checked, kept, capsys):
  header = HEADERS[name]
  content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(288)
  if checked:  # Even with a right digest.
    files.write_checked(kept.path, content, f"{'d' * 64} 1")
  else:
    kept.path.write_bytes(content)
  check_rebuilt(kept, capsys)


def test_the_file_of_another_epoch_or_corpus_is_not_taken(kept, capsys):
  files.write_checked(kept.path, files.read_checked(kept.path, f"{'d' * 64} 1"), f"{'d' * 64} 2")
  check_rebuilt(kept, capsys)
  other = sizes(kept.path.parent, "e" * 64)
  assert other.asked == len(SAMPLES)
  kept.path.with_name(kept.path.name.replace("d" * 32, "e" * 32)).replace(kept.path)
  check_rebuilt(kept, capsys)


def test_a_file_of_before_is_measured_again(kept, capsys):
  plain = io.BytesIO()
  np.save(plain, kept.expected + 1)
  kept.path.write_bytes(plain.getvalue())
  check_rebuilt(kept, capsys)


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path, capsys):
  blocked = tmp_path / "blocked"
  blocked.write_bytes(b"")
  expected = sizes("").array
  for _ in range(2):
    np.testing.assert_array_equal(sizes(blocked).array, expected)
  full = tmp_path / "full"
  with interrupted.full_disk(100):
    np.testing.assert_array_equal(sizes(full).array, expected)
  assert list(full.iterdir()) == []
  lines = capsys.readouterr().err.splitlines()
  assert [line.partition(" (")[0] for line in lines] == [
    f"{blocked} cannot be written",
    f"{full} cannot be written",
  ]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
  path = str(tmp_path / "sizes.npy")
  interrupted.kill_writer(f"write_atomically({path!r})", "out.write(b'half')")
  (leftover,) = tmp_path.iterdir()
  sizes(tmp_path)
  assert not leftover.exists() and len(list(tmp_path.iterdir())) == 1
