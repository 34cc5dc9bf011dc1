# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.corpora."""

# ruff: noqa: F401
from filax.testing.corpora import LAYOUT
from filax.testing.corpora import data_config as settings
from filax.testing.corpora import open_pipeline as pipeline
from filax.testing.corpora import write_corpus as make
from filax.testing.corpora import write_media as records
