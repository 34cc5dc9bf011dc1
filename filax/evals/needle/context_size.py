# SPDX-License-Identifier: Apache-2.0
"""Whether the context holds a haystack with its needles."""

from filax.evals.needle import contexts
from filax.evals.needle.setup import NeedleTest
from filax.evals.needle.visuals import positions_per_group
from filax.infer.generate import context_length, unstretched_positions
from filax.infer.video import frame_unit


def check_frames(test: NeedleTest) -> None:
  """Raises ValueError if the longest haystack exceeds the context.

  The message says how many frames fit, and which option extends the context.
  """
  model = test.loaded.model
  layout = model.layout()
  per_group = positions_per_group(layout)
  group = layout.frames_per_group
  frames = max(test.lengths)
  other = words_and_needles(test)
  context = context_length(model)
  needed = frames * per_group // group + other
  if needed <= context:
    return
  fit = max(0, (context - other) * group // per_group)
  factor = -(-needed // unstretched_positions(model))
  raise ValueError(
    f"{frames} frames with needle and question are {needed} tokens, and the model reads {context} "
    f"positions: {fit} frames fit. Set --lengths to {fit} or less, or --yarn {factor}."
  )


def words_and_needles(test: NeedleTest) -> int:
  """The most tokens of a prompt beside the haystack's."""
  model = test.loaded.model
  layout = model.layout()
  clip = frame_unit(model) // layout.frames_per_group * positions_per_group(layout)
  longest = 0
  for item in test.items:
    for question in item.questions:
      frame = contexts.prompt_frame(
        test.loaded.processor,
        question.text,
        question.answer,
      )
      words = len(frame.before.tokens) + len(frame.question.tokens) + len(frame.answer)
      longest = max(longest, words + clip * len(item.pictures))
  return longest + int(layout.newline == "one_token")
