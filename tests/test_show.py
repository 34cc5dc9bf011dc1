# SPDX-License-Identifier: Apache-2.0
"""The output of `filax show` equals the text in tests/golden.

UPDATE_GOLDEN=1 writes that anew; then look at the difference.
"""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from filax.cli import show

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"


def printed(arg, capsys):
  assert show.main([f"--config={ROOT}/configs/{arg}"]) == 0
  return capsys.readouterr().out


@pytest.mark.parametrize("name", ["fila_stage1", "fila_stage4"])
def test_golden(name, capsys):
  text = printed(f"{name}.py", capsys)
  path = GOLDEN / f"show_{name}.txt"
  if os.environ.get("UPDATE_GOLDEN"):
    path.write_text(text)
  assert text == path.read_text()


def test_sizes_layout_and_tokens_are_in_the_output(capsys):
  text = printed("fila_stage4.py", capsys)
  for part in (
    "config.optim.clip = 1.0",
    "llm/layers/self_attn/q_proj/kernel",
    "28 3584(fsdp,seq) 28(tensor) 128",
    "8,032,865,952",
    "96 frames (uniform) -> 32 groups of 3",
    "6,273",
  ):
    assert part in text


def test_frozen_parts_are_called_so(capsys):
  lines = printed("fila_stage1.py", capsys).splitlines()
  rates = {line.split()[0]: line for line in lines if "/" in line}
  assert "frozen" in rates["llm/norm/scale"] and "0.001" in rates["projector/linear_1/kernel"]
  assert any(line.split()[:3] == ["all", "8,032,862,368", "0.2%"] for line in lines)


def test_7b_takes_seconds_without_data_or_device():
  """As a command, in a process whose only platform does not exist."""
  began = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-m", "filax", "show", "--config=configs/fila_stage4.py", "--config.batch=3"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "nothing"},
  )
  assert done.returncode == 0, done.stderr
  assert "config.batch = 3" in done.stdout
  assert time.monotonic() - began < 60


def test_an_invalid_config_is_one_sentence():
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "filax",
      "show",
      "--config=configs/fila_stage4.py",
      "--config.data.sampling.frames=95",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 2 and "Traceback" not in done.stderr
  assert "config.data.sampling.frames" in done.stderr.splitlines()[-1]
