# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of trees, and the lease of the run that writes them."""
