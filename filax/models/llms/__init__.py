# SPDX-License-Identifier: Apache-2.0
"""Decoders (filax.models.roles.LLM). A new one is an Attention, a Block and the tables."""
