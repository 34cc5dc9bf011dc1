# SPDX-License-Identifier: Apache-2.0
"""The commands of FiLax, one file a verb.

Only this room reads flags and config files.
"""
