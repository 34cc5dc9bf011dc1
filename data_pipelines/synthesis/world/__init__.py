# SPDX-License-Identifier: Apache-2.0
"""A small world of scenes: videos, questions of many kinds, and the truth about them."""
