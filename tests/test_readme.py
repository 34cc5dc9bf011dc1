# SPDX-License-Identifier: Apache-2.0
"""The README's commands and its Python, run in order in an empty folder."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

from compile_flags import QUICK
import pytest

from data_pipelines.synthesis import toy

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"<!-- run -->\n```bash\n(.*?)```", README, re.S)
RUN_ALL = """\
import shlex, sys
from filax.cli.main import main
for command in sys.argv[1:]:
  print("$", command, file=sys.stderr)
  code = main(shlex.split(command)[1:])
  if code:
    sys.exit(f"This command returned {code}.")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder from which paths in commands look as from the root, and that has no runs yet."""
  folder = tmp_path_factory.mktemp("readme")
  for name in ("configs", "launch"):
    (folder / name).symlink_to(ROOT / name)
  toy.tiny_corpus(folder / "runs/debug_corpus")
  return folder


def run(command, folder):
  path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
  # One device, as on a laptop: the tests' own process pretends to have eight.
  env = {**os.environ, "PATH": path, "XLA_FLAGS": QUICK, "PYTHONPATH": str(ROOT)}
  return subprocess.run(
    command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
  )


def test_every_block_of_commands_is_covered():
  everything = re.findall(r"```bash\n(.*?)```", README, re.S)
  assert everything == BLOCKS and len(BLOCKS) >= 5
  assert "make demo" in README and "make test" in README  # .ci/run runs these two.


def test_commands(folder):
  """In order; those of filax in one process, which imports and traces once."""
  commands = [line for block in BLOCKS for line in block.splitlines() if line]
  ours = [command for command in commands if command.startswith("filax ")]
  done = run([sys.executable, "-c", RUN_ALL, *ours], folder)
  assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
  for command in commands:
    if command not in ours:
      done = run(shlex.split(command), folder)
      assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
  for name in ("check", "sheet.png", "debug/checkpoints/6"):
    assert (folder / "runs" / name).exists()


def test_the_command_is_installed(folder):
  done = run(["filax", "--help"], folder)
  assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_python(folder):
  code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.S))
  code = code.replace("runs/demo/stage2", "runs/debug").replace("size=48", "size=42")
  code = code.replace("clip.mp4", "runs/debug_corpus/videos/tiny-000.mp4")
  done = run([sys.executable, "-c", code], folder)
  assert done.returncode == 0, done.stderr
  assert len(done.stdout.splitlines()) >= 2
