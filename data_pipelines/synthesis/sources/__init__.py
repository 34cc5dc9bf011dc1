# SPDX-License-Identifier: Apache-2.0
"""Readers of annotated long videos.

Each source is a file with a TrackSource named SOURCE.
"""
