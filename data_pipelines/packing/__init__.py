# SPDX-License-Identifier: Apache-2.0
"""Packing: how much of each sample is used, and which samples share a row."""
