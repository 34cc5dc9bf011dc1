# SPDX-License-Identifier: Apache-2.0
"""Needles in a video haystack: single hop and multi hop."""
