# SPDX-License-Identifier: Apache-2.0
"""Encoders turn pixels into patch tokens (filax.models.roles.Encoder)."""
