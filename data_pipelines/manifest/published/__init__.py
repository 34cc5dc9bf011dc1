# SPDX-License-Identifier: Apache-2.0
"""Captions of public data sets, under their own keys; a data set a file."""
