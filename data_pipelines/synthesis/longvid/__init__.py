# SPDX-License-Identifier: Apache-2.0
"""Builders of questions about tracks.

Each task is a file with a function `list_slots(shown)`.
"""
