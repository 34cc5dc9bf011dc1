# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.clips and filax.testing.manifests."""

# ruff: noqa: F401
from filax.testing.clips import BROKEN_VIDEOS as BROKEN
from filax.testing.clips import draw_number as drawing
from filax.testing.clips import missing_path as missing
from filax.testing.clips import read_number as number
from filax.testing.clips import read_numbers as numbers
from filax.testing.clips import write_corrupt as corrupt
from filax.testing.clips import write_empty as empty
from filax.testing.clips import write_noise as noise
from filax.testing.clips import write_picture as picture
from filax.testing.clips import write_picture_folder as folder
from filax.testing.clips import write_sound as sound
from filax.testing.clips import write_truncated as truncated
from filax.testing.clips import write_video as write
from filax.testing.clips import write_without_index as without_index
from filax.testing.manifests import question_record as record
from filax.testing.manifests import write_manifest as manifest
