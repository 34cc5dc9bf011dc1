# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of trees and who may write them."""
