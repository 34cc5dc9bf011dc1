# SPDX-License-Identifier: Apache-2.0
"""Real compilations for TPUs, without one: the smallest slice, the tiny model."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("libtpu")

ROWS = "--config.data.rows=((48,0,512,1),)"


def plan(*argv, code=0):
  """`filax plan` in a process of its own: libtpu reads its settings when it starts."""
  done = subprocess.run(
    [sys.executable, "-m", "filax", "plan", *argv],
    capture_output=True,
    text=True,
    timeout=900,
    env=os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=""),
  )
  assert done.returncode == code, done.stderr[-2000:]
  return done


def test_a_step_of_fila_for_four_chips():
  done = plan(
    "--config",
    "configs/fila_toy.py:stage=2",
    "--topology",
    "v5e:2x2",
    "--config.mesh.seq=2",
    ROWS,
    "--config.evals=(('held_out.json',100,50),)",
    "--samples",
    "1000",
    "--json",
  )
  report = json.loads(done.stdout)
  assert report["fits"] and report["mesh"] == dict(data=1, fsdp=2, seq=2, tensor=1)
  (row,) = report["rows"]
  memory = row["memory"]
  assert memory["total"] == sum(x for key, x in memory.items() if key != "total")
  assert memory["parameters"] > 0 and memory["temporary"] > 0
  moved = row["collectives"]
  assert moved["bytes"]["seq"]["all-gather"] > 0
  assert row["visual"] == dict(merged=16 * 4 * 96 * 4, patches=48 * 16 * 64 * 4)
  assert row["flops"]["hardware"] >= row["flops"]["model"] > 0
  evaluation = report["evaluation"]
  assert evaluation["fits"] and set(evaluation["programs"]) == {"encode", "prefill", "decode"}
  assert evaluation["positions"] == 640, "32 visual tokens, a newline and 512 words"
  held = evaluation["memory"]["parameters"] + evaluation["memory"]["optimizer"]
  assert held == memory["parameters"] + memory["optimizer"]
  assert evaluation["memory"]["total"] >= held + max(evaluation["programs"].values())
  assert report["peak_bytes"] == max(memory["total"], evaluation["memory"]["total"])
  assert report["chip_hours"] == pytest.approx(1000 / 8 * row["step_seconds"] * 4 / 3600)


def test_slices_are_joined_along_data():
  """Two slices of four chips; only the data axis crosses from one to the other."""
  program = (
    "import jax; jax.config.update('jax_platforms', 'cpu')\n"
    "from filax.parallel import mesh; from filax.plan import topology\n"
    "devices = topology.parse_topology('2*v5e:2x2').devices()\n"
    "made = mesh.make_mesh(dict(data=2, fsdp=-1), devices)\n"
    "print([[d.slice_index for d in row.ravel()] for row in made.devices])\n"
    "mesh.make_mesh(dict(data=1, fsdp=1, seq=8), devices)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
    env=os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=""),
  )
  assert done.stdout.strip() == "[[0, 0, 0, 0], [1, 1, 1, 1]]", done.stderr
  assert "Set one of them to a multiple of 2" in done.stderr


def test_an_invalid_mesh_or_slice_is_one_sentence():
  done = plan(
    "--config",
    "configs/fila_toy.py:stage=2",
    "--topology",
    "v5e:2x2",
    "--config.mesh.seq=3",
    code=2,
  )
  assert "config.mesh" in done.stderr and "Traceback" not in done.stderr
  done = plan("--config", "configs/fila_toy.py:stage=2", "--topology", "v5e:3x5", code=2)
  assert "Slices of v5e: 2x2, 2x4" in done.stderr and "Traceback" not in done.stderr
