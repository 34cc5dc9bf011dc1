# SPDX-License-Identifier: Apache-2.0
"""Short labels of events and places: by rules, by an endpoint, or by a local model."""
