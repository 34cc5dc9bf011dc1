# SPDX-License-Identifier: Apache-2.0
"""Mergers combine a group's K frames into one token set.

The role is filax.models.roles.Merger.
"""
