# SPDX-License-Identifier: Apache-2.0
"""Studies that repeat tables of the papers: what is trained, asked and claimed."""
