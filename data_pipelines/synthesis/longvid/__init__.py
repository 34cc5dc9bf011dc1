# SPDX-License-Identifier: Apache-2.0
"""Builders of questions about tracks.

A task a file, each with `list_slots(shown)`.
"""
