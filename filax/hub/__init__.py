# SPDX-License-Identifier: Apache-2.0
"""Publishing a model on the Hugging Face hub: a card, weights alone, no paths of this machine."""
