# SPDX-License-Identifier: Apache-2.0
"""Older names of filax.testing.interrupted."""

# ruff: noqa: F401
from filax.testing.interrupted import ROOT, full_disk
from filax.testing.interrupted import ended_process_id as dead_pid
from filax.testing.interrupted import half_writer as writing
from filax.testing.interrupted import kill_writer as killed_writer
from filax.testing.interrupted import read_only_folder as read_only
