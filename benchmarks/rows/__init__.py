# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmarks, a file for each kind of work (benchmarks/row.py)."""
