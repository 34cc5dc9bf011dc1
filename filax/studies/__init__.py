# SPDX-License-Identifier: Apache-2.0
"""Studies of a model: many measurements, one table or picture."""
