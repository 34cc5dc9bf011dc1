# SPDX-License-Identifier: Apache-2.0
"""Commands about data: check a manifest, build ArrayRecord files, transcode media."""
