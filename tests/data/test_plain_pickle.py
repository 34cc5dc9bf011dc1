# SPDX-License-Identifier: Apache-2.0
"""Pickles of plain values are read, one element at a time, and nothing is executed."""

import os
import pickle
import pickletools
import random
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from data_pipelines.manifest.report import RecordError
from data_pipelines.synthesis.sources import plain_pickle
from data_pipelines.synthesis.sources.plain_pickle import pickled_elements

CLIPS = [("video-1", 0.5, 1.5, "C chops"), ("video-1", 2, None, "C's é"), ("video-2", 1 << 70, -3)]
SEGMENTS = [dict(vid="v", sid=1, captions_gt=[CLIPS[0]], flag=True, raw=b"x"), {}]


class Planted:
  """Runs code when it is unpickled."""

  def __reduce__(self):
    return os.mkdir, ("planted",)


@pytest.fixture
def file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path / "clips.pkl"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [CLIPS, SEGMENTS, [], CLIPS * 2000], ids=range(4))
def test_lists_of_plain_values_are_read(file, protocol, value):
  if protocol < 3 and value is SEGMENTS:
    value = [dict(SEGMENTS[0], raw="x")]  # Bytes are a call there.
  file.write_bytes(pickle.dumps(value, protocol))
  assert list(pickled_elements(file)) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [[Planted()], Planted(), [1, (2, {"a": Planted()})]])
def test_code_is_never_run(file, protocol, value):
  file.write_bytes(pickle.dumps(value, protocol))
  with pytest.raises(RecordError, match="nothing was run"):
    list(pickled_elements(file))
  assert not os.path.exists("planted")


def test_elements_before_a_class_are_given(file):
  file.write_bytes(pickle.dumps([*range(1000), Planted()], 4))
  elements = pickled_elements(file)
  assert [next(elements) for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize("value", [{"a": 1}, (1, 2), "text", 7, None], ids=str)
def test_anything_but_a_list_is_an_error(file, value):
  file.write_bytes(pickle.dumps(value))
  with pytest.raises(RecordError, match="not a list"):
    list(pickled_elements(file))


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"not a pickle",
    b"\x80\x04]\x8d" + (1 << 40).to_bytes(8, "little"),  # A text of a terabyte.
    b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little"),  # A frame of a terabyte.
    b"\x80\x04](" + b"(" * 1000 + b"e.",
    b"\x80\x04]Nr\xff\xff\xff\xff.",  # Value number four thousand million.
    b"\x80\x04]\x96" + (1 << 40).to_bytes(8, "little") + b".",  # A bytearray.
    b"]I" + b"9" * 10_000 + b"\na.",
    b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",  # A dict with a deep key.
    b"cos\nsystem\n(S'true'\ntR.",
    b"(S'true'\nios\nsystem\n.",
    b"\x80\x04](h\x05e.",
    b"\x82\x01.",
    b"\x80\x02P1\n.",
  ],
  ids=range(14),
)
def test_damaged_and_hostile_pickles_are_errors(file, content):
  file.write_bytes(content)
  with pytest.raises(RecordError):
    list(pickled_elements(file))


def test_memory_does_not_grow_with_the_file(file):
  names = [f"video-{number}" for number in range(50)]
  clips = [(names[number % 50], number, number + 1, f"C does {number}") for number in range(12_000)]
  file.write_bytes(pickle.dumps(clips, 4))
  del clips
  plain_pickle.REMEMBERED, before = 2000, plain_pickle.REMEMBERED
  tracemalloc.start()
  try:
    last = None
    for number, element in enumerate(pickled_elements(file)):
      assert element[1] == number
      last = element
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
    plain_pickle.REMEMBERED = before
  assert last == ("video-49", 11_999, 12_000, "C does 11999")
  assert peak < 2_000_000


def test_a_value_that_was_not_kept_is_an_error(file, monkeypatch):
  monkeypatch.setattr(plain_pickle, "REMEMBERED", 10)
  shared = "a shared text"
  file.write_bytes(pickle.dumps([shared, *map(str, range(100)), shared], 4))
  with pytest.raises(RecordError, match=r"convert the pickle to \.json"):
    list(pickled_elements(file))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_elements_or_an_error(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "any.pkl"
  path.write_bytes(b"\x80\x04](" + content + b"e.")
  try:
    for _ in pickled_elements(path):
      pass
  except RecordError as error:
    assert str(error)


def test_changed_pickles_are_elements_or_an_error(file):
  base = pickle.dumps(SEGMENTS * 3, 4)
  codes = bytes(opcode.code.encode("latin-1")[0] for opcode in pickletools.opcodes)
  for seed in range(600):
    draw = random.Random(seed)
    content = bytearray(base)
    for _ in range(draw.randint(1, 4)):
      content[draw.randrange(len(content))] = draw.choice(codes)
    file.write_bytes(content)
    try:
      for _ in pickled_elements(file):
        pass
    except RecordError as error:
      assert str(error)
