# SPDX-License-Identifier: Apache-2.0
"""The published training mixtures, as data: a module for each stage, with its PARTS."""
