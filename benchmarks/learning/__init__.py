# SPDX-License-Identifier: Apache-2.0
"""Curves of learning: FiLax beside its own export, trained by PyTorch."""
