# SPDX-License-Identifier: Apache-2.0
"""The commands of FiLax, one file per verb.

Only this folder reads flags and config files.
"""
