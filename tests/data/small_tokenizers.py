# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.tiny_tokenizer."""

# ruff: noqa: F401
from filax.testing.tiny_tokenizer import CONTROL_TOKENS as SPECIALS
from filax.testing.tiny_tokenizer import TEXTS
from filax.testing.tiny_tokenizer import write_qwen_tokenizer as qwen_like
