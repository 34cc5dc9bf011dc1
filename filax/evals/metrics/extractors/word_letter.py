# SPDX-License-Identifier: Apache-2.0
"""The first separate capital letter: the rule of PerceptionTest's validation set.

lmms-eval and VideoChat-Flash use it.
"""

from collections.abc import Sequence
import re


def word_letter(text: str, options: Sequence[str] = (), letters: str = "ABCD") -> str | None:
  """The first of `letters` that is a word.

  Only capitals count. D counts as an answer to three options.
  """
  del options
  letter = re.search(rf"\b[{letters}]\b", text)
  return None if letter is None else letter[0]
