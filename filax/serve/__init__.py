# SPDX-License-Identifier: Apache-2.0
"""Answers for many clients at once: requests, one device queue, an HTTP server."""
