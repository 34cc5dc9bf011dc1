# SPDX-License-Identifier: Apache-2.0
"""Projectors bring visual tokens to the width of the llm (filax.models.roles.Projector)."""
