# SPDX-License-Identifier: Apache-2.0
"""Files for exported folders.

They are copied there, and need torch and transformers, not FiLax.
"""
