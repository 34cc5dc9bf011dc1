# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.row_source."""

# ruff: noqa: F401
from filax.testing.row_source import LAYOUT
from filax.testing.row_source import ROW_SHAPE as ROW
from filax.testing.row_source import RandomRows as Rows
from filax.testing.row_source import random_batch as batch
from filax.testing.row_source import random_row as row
from filax.testing.row_source import tiny_train_config as config
