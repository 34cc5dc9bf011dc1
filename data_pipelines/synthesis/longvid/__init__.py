# SPDX-License-Identifier: Apache-2.0
"""Builders of questions about tracks.

A task a file, each with `build_questions(track, seed)`.
"""
