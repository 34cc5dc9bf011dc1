# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.qwen2_folder."""

# ruff: noqa: F401
from filax.testing.qwen2_folder import CONFIG, DEPTH, MLP, VOCAB, WIDTH
from filax.testing.qwen2_folder import qwen2_tensors as state
from filax.testing.qwen2_folder import write_qwen2_folder as write
