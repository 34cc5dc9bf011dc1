# SPDX-License-Identifier: Apache-2.0
"""Numbers on command lines are checked before anything is read."""

import pytest

from filax.cli import main as filax

CHAT = ["chat", "--checkpoint", "none", "--video", "none.mp4"]
EVALS = ["evals", "--checkpoint", "none", "--manifest", "none.json"]
REDUNDANCY = [
  "analyze",
  "redundancy",
  "--checkpoint",
  "none",
  "--out",
  "x.png",
  "--manifest",
  "none.json",
]
FLOPS = ["flops", "--config", "configs/none.py"]


@pytest.mark.parametrize(
  "command, flag, value",
  [
    *(
      (CHAT, flag, value)
      for flag, value in [
        ("--yarn", "nan"),
        ("--yarn", "0.5"),
        ("--yarn", "inf"),
        ("--frames", "0"),
        ("--frames", "-4"),
        ("--frames", "many"),
        ("--max-new-tokens", "0"),
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--temperature", "nan"),
        ("--top-p", "1.5"),
        ("--top-k", "0"),
        ("--frames", "9" * 20),
        ("--max-new-tokens", str(2**31)),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
      ]
    ),
    *(
      (EVALS, flag, value)
      for flag, value in [
        ("--batch", "0"),
        ("--batch", "2.5"),
        ("--limit", "-1"),
        ("--limit", "0"),
        ("--limit", "9" * 20),
        ("--threads", "0"),
        ("--max-new-tokens", "-5"),
      ]
    ),
    *(
      (REDUNDANCY, flag, value)
      for flag, value in [
        ("--ratio", "nan"),
        ("--ratio", "0"),
        ("--layers", "1,x"),
        ("--batch", "0"),
        ("--limit", "-1"),
      ]
    ),
    (FLOPS, "--frames", "64,0"),
    (FLOPS, "--frames", "few"),
    (FLOPS, "--tokens-per-frame", "nan"),
    (FLOPS, "--tokens-per-frame", "1e300"),
    (FLOPS, "--frames", "64," + "9" * 20),
    (["data", "needles", "--out", "x"], "--minutes", "1e300"),
    (["data", "needles", "--out", "x"], "--seed", "9" * 20),
    (["data", "check", "none.json"], "--threads", "0"),
    (["demo"], "--videos", "0"),
    (["demo"], "--seed", "-1"),
    (["convert", "to", "--checkpoint", "x", "--out", "y"], "--tolerance", "nan"),
    (["convert", "to", "--checkpoint", "x", "--out", "y"], "--shard-gb", "inf"),
  ],
)
def test_invalid_numbers_are_named(command, flag, value, capsys):
  assert filax.main([*command, f"{flag}={value}"]) == 2
  (sentence,) = capsys.readouterr().err.splitlines()
  assert f"argument {flag}: " in sentence
  assert value.split(",")[-1] in sentence
