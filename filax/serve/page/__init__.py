# SPDX-License-Identifier: Apache-2.0
"""The web page of `filax serve` (extra `demo`)."""

from filax.serve.page.mount import mount_page

__all__ = ["mount_page"]
