# SPDX-License-Identifier: Apache-2.0
"""The GPU check of attention runs anywhere with tiny shapes."""

import json

import pytest

from benchmarks import gpu_attention

pytestmark = pytest.mark.slow


def test_tiny_shapes_pass(tmp_path, monkeypatch):
  monkeypatch.setattr(gpu_attention, "run_torch", lambda tiny: iter(()))
  out = tmp_path / "rows.json"
  assert gpu_attention.main(["--tiny", "--out", str(out)]) == 0
  rows = json.loads(out.read_text())
  checks = [row for row in rows if row["kind"] == "check"]
  assert {row["kernel"] for row in checks} == {"auto", "blockwise 16"}
  assert all(row["passed"] for row in checks)
  assert [row["kernel"] for row in rows if row["kind"] == "auto"] == ["dense"] * 4
