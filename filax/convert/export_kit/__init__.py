# SPDX-License-Identifier: Apache-2.0
"""Files that are copied into exported folders. They need torch and transformers, not FiLax."""
