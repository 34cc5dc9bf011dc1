# SPDX-License-Identifier: Apache-2.0
"""Publishes a model on the Hugging Face hub: weights and a card, without paths of this machine."""
