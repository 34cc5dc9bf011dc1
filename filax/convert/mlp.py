# SPDX-License-Identifier: Apache-2.0
"""The projector and its newline: names of LlavaOnevisionMultiModalProjector, newline beside it."""

TABLE = (
  (r"(linear_[12])/kernel", r"\1.weight", "i o -> o i"),
  (r"(linear_[12])/bias", r"\1.bias", "o -> o"),
  (r"image_newline", r"image_newline", "D -> D"),
)
SPARE = ((r"image_newline", "the config has no newline"),)
EXTRA = (("image_newline", "D", 0.0),)
