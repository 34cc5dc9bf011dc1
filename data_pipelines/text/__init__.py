# SPDX-License-Identifier: Apache-2.0
"""Tokenizers, templates and time prompts."""
