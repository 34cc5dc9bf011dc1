# SPDX-License-Identifier: Apache-2.0
"""Mergers make one set of tokens of the K frames of a group (filax.models.roles.Merger)."""
