# SPDX-License-Identifier: Apache-2.0
"""Decoders (filax.models.roles.LLM).

A new decoder needs an Attention, a Block and the tables.
"""
