# SPDX-License-Identifier: Apache-2.0
"""Short labels for events and places.

They come from rules, from a served model or from a local one.
"""
