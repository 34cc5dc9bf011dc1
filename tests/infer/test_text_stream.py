# SPDX-License-Identifier: Apache-2.0
"""Text of an answer while its tokens arrive: whole letters, and the same text in the end."""

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
