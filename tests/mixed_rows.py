# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.packed_rows."""

# ruff: noqa: F401
from filax.testing.packed_rows import FILA, FLASH, GROUPS, IMAGES
from filax.testing.packed_rows import PackedSample as Sample
from filax.testing.packed_rows import packed_batch as batch
from filax.testing.packed_rows import packed_row as row
from filax.testing.packed_rows import row_shape as shape
from filax.testing.packed_rows import sample_rows as rows
from filax.testing.packed_rows import tiny_model as model
