# SPDX-License-Identifier: Apache-2.0
"""Texts that are not answers are told from short answers."""

import pytest

from filax.evals.metrics.degenerate import answer_flag


@pytest.mark.parametrize(
  ("text", "flag"),
  [
    ("", "empty"),
    (" \n", "empty"),
    ("!!!!!!!!", "symbols"),
    ("(", "symbols"),
    ("…", "symbols"),
    ("A", ""),
    ("(B) a dog", ""),
    ("A man walks his dog.\n--------------\nThen both of them sit down.", ""),
    ("1000000", ""),
    ("no no", ""),
    ("答案是B", ""),
    ("The event happens in the 24.3 - 30.4 seconds.", ""),
    ("the the the the the", "repeats"),
    ("A B A B A B A B A", "repeats"),
    ("I see a dog. a cat a cat a cat a cat a cat", "repeats"),
    ("aaaaaaaaaaaaaaaaaa", "repeats"),
    ("北京北京北京北京北京北京北京", "repeats"),
    (" ".join(map(str, range(5000))), ""),
    ("word " * 20_000, "repeats"),
  ],
)
def test_flags(text, flag):
  assert answer_flag(text) == flag
