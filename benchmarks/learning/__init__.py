# SPDX-License-Identifier: Apache-2.0
"""Learning curves: FiLax, and the exported model trained by PyTorch."""
