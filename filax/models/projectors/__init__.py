# SPDX-License-Identifier: Apache-2.0
"""Projectors map visual tokens to the llm's width (filax.models.roles.Projector)."""
