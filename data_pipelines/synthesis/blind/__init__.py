# SPDX-License-Identifier: Apache-2.0
"""Attacks on multiple-choice questions that see their text alone."""
