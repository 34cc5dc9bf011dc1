# SPDX-License-Identifier: Apache-2.0
"""Short labels for events and places.

By rules, a served model or a local one.
"""
