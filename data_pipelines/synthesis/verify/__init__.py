# SPDX-License-Identifier: Apache-2.0
"""Checks of question sets that share no code with the builders of questions."""
