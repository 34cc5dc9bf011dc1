# SPDX-License-Identifier: Apache-2.0
"""Text of an answer while its tokens arrive: whole letters, and the same text in the end."""

import time

import pytest

from filax.infer.text_stream import TextStream

TEXT = "  Der Löwe 🦁 schläft.\n\nGut. "


def decode(ids):
  """Every id is a byte of UTF-8."""
  return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_pieces_join_to_the_text_and_break_no_letter(length):
  ids = list(TEXT.encode())
  text = TextStream(decode)
  pieces = [text.add_ids(ids[n : n + length]) for n in range(0, len(ids), length)]
  pieces.append(text.finish())
  assert "".join(pieces) == TEXT.strip()
  assert not any("\ufffd" in piece for piece in pieces)


def test_a_letter_that_never_completes_is_shown_at_the_end():
  text = TextStream(decode)
  assert text.add_ids(list(b"a\xf0\x9f")) == "a"
  assert text.finish() == "\ufffd"


def test_white_space_waits_for_the_next_letter():
  text = TextStream(decode)
  assert text.add_ids(list(b"\n yes \n")) == "yes"
  assert text.add_ids(list(b"no ")) == " \nno"
  assert text.finish() == ""


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("stops", [("STOP",), ("\n\nSTOP", "never"), ("xST", "OP", "TOP")])
def test_the_text_ends_before_a_stop_string_wherever_tokens_end(length, stops):
  whole = "One, two. STAR\n\nSTOP and more STOP"
  ids = list(whole.encode())
  text = TextStream(decode, stops)
  pieces = [text.add_ids(ids[n : n + length]) for n in range(0, len(ids), length)]
  pieces.append(text.finish())
  ends = [whole.index(stop) for stop in stops if stop in whole]
  assert "".join(pieces) == whole[: min(ends)].rstrip() == text.text
  assert text.stopped


def test_what_may_begin_a_stop_string_is_held_back():
  text = TextStream(decode, ["END"])
  assert text.add_ids(list(b"The EN")) == "The"
  assert text.add_ids(list(b"TER")) == " ENTER"
  assert text.add_ids(list(b" E")) == ""
  assert text.finish() == " E"
  assert not text.stopped


WORDS = [" One", " two", ",", " Löwe", "\n", "  ", " the", "st", " 🦁"]


def decode_words(ids):
  """As sentencepiece: the first space of a text is dropped."""
  return "".join(WORDS[id_ % len(WORDS)] for id_ in ids).removeprefix(" ")


@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("decode_ids", [decode, decode_words])
def test_a_long_answer_is_decoded_part_by_part(decode_ids, length):
  ids = list((TEXT * 40).encode())
  longest = []

  def counted(part):
    longest.append(len(part))
    return decode_ids(part)

  text = TextStream(counted)
  pieces = []
  for number in range(0, len(ids), length):
    pieces.append(text.add_ids(ids[number : number + length]))
    reference = decode_ids(ids[: number + length]).strip().rstrip("\ufffd").rstrip()
    assert "".join(pieces) == reference
  assert max(longest) < 150
  pieces.append(text.finish())
  assert "".join(pieces) == decode_ids(ids).strip()


def test_many_stop_strings_cost_little_in_a_long_answer():
  """The whole text was searched for each of them at each chunk: half a minute for this one."""
  stops = [f"\nUser {number}:" for number in range(200)]
  text = TextStream(decode_words, stops)
  start = time.process_time()
  for number in range(0, 30_000, 8):
    text.add_ids(range(number, number + 8))
  assert time.process_time() - start < 10


def test_a_stop_string_may_be_a_text_of_its_own():
  stream = TextStream(decode, "END")
  assert stream.add_ids(b"every END of it") == "every" and stream.stopped
  with pytest.raises(ValueError, match="must not be empty"):
    TextStream(decode, [""])
