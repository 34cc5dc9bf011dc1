# SPDX-License-Identifier: Apache-2.0
"""Studies of a model: series of measurements as a table or figure."""
