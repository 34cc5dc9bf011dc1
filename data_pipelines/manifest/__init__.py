# SPDX-License-Identifier: Apache-2.0
"""Manifests: records of LLaVA-style JSON and ArrayRecord files, read as samples."""
