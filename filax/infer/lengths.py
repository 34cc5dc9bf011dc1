# SPDX-License-Identifier: Apache-2.0
"""The lengths to which prompts and answers are padded.

They are few, so that few programs are compiled.
"""


def ladder(low: int, high: int) -> tuple[int, ...]:
  """Sizes from `low` to `high`, which grow by a quarter or less.

  They are 4, 5, 6 and 7 times a power of two. So a size that is rounded up takes at most 5/4 of the
  memory that it needs.
  """
  sizes: list[int] = []
  step = low // 4
  while 4 * step <= high:
    sizes.extend(step * quarters for quarters in (4, 5, 6, 7))
    step *= 2
  return tuple(size for size in sizes if size <= high)


def prompt_lengths(longest: int) -> tuple[int, ...]:
  """Buckets of prompts with up to `longest` tokens and WORDS more.

  They are the ladder to 4096, then its sizes and WORDS: a video often has a power of two of visual
  tokens, and a prompt has words beside it.
  """
  longer = [size + WORDS for size in ladder(4096, longest)]
  return (*ladder(64, 4096), *longer)


WORDS = 512  # Places for words in the bucket of a long video.
LENGTHS = prompt_lengths(1_048_576)  # Buckets of prompts, L.
NEW = ladder(16, 32_768)  # Buckets of new tokens, N: the cache holds L + N places.
