# SPDX-License-Identifier: Apache-2.0
"""The commands about data: `filax data check` and `filax data build`."""
