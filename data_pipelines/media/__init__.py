# SPDX-License-Identifier: Apache-2.0
"""Media files: opened safely, indexed, decoded by time, cached."""
