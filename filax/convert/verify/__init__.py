# SPDX-License-Identifier: Apache-2.0
"""Compares PyTorch and FiLax on the same tokens and pixels.

One process after the other.
"""
