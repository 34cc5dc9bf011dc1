# SPDX-License-Identifier: Apache-2.0
"""Packing: frames and tokens of each sample, and samples of each row."""
