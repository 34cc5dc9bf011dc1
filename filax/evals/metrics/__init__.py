# SPDX-License-Identifier: Apache-2.0
"""Metrics: how an answer is read and scored."""
