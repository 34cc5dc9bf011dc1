# SPDX-License-Identifier: Apache-2.0
"""Attention kernels with one signature.

Causal within segments, or without a mask.
"""
