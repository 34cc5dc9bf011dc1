# SPDX-License-Identifier: Apache-2.0
"""Attention: one signature, several kernels; causal within segments, or without a mask."""
