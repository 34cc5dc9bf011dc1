# SPDX-License-Identifier: Apache-2.0
"""FiLax checkpoints as models of lmms-eval: `lmms-eval eval --model filax` (README.md).

FiLax runs in its own environment, as a process that answers lines of JSON; nothing of FiLax is
imported here.
"""
