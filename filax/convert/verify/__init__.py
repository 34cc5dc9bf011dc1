# SPDX-License-Identifier: Apache-2.0
"""Compares PyTorch and FiLax on the same tokens and pixels.

Each side runs in a process of its own, one after the other.
"""
