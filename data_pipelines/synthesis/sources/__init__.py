# SPDX-License-Identifier: Apache-2.0
"""Readers of annotated long videos.

A source a file, each with a TrackSource named SOURCE.
"""
