# SPDX-License-Identifier: Apache-2.0
"""No program is compiled twice in a process: every request for one has another key."""

import os
from pathlib import Path
import subprocess
import sys

from compile_flags import QUICK
import pytest

from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
COUNTED = """\
import collections, jax, sys
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
{work}
print("requests", events["compile_requests_use_cache"], "found", events["cache_hits"])
"""
CHAT = """\
from filax.cli.main import main
checkpoint, video = sys.argv[1:]
assert main(["chat", "--checkpoint", checkpoint, "--video", video, "--question", "Which?"]) == 0
"""
TRAIN = """\
from filax.testing import row_source
from filax.train import loop
config = row_source.tiny_train_config(steps=4, checkpoint_every=2, log_every=1)
loop.train_pipeline(config, sys.argv[1], row_source.RandomRows(8))
"""


def compiled(cache, work, *arguments):
  """(requests for programs, those that the cache had, the programs in it) of a new process."""
  environment = dict(os.environ, PYTHONPATH=str(ROOT), FILAX_CACHE=str(cache), XLA_FLAGS=QUICK)
  for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
    environment.pop(name, None)
  command = [sys.executable, "-c", COUNTED.format(work=work), *map(str, arguments)]
  run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
  assert run.returncode == 0, run.stderr
  _, requests, _, found = run.stdout.splitlines()[-1].split()
  return int(requests), int(found), len(list(cache.glob("compiled/*/jit*-cache")))


def test_a_conversation_compiles_every_program_once(tmp_path):
  checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  video = clips.write_video(tmp_path / "clip.mp4")
  requests, found, programs = compiled(tmp_path / "cache", CHAT, checkpoint, video)
  assert requests == programs and not found
  requests, found, programs = compiled(tmp_path / "cache", CHAT, checkpoint, video)
  assert requests == found == programs


def test_a_training_run_compiles_every_program_once(tmp_path):
  requests, found, programs = compiled(tmp_path / "cache", TRAIN, tmp_path / "run")
  assert requests == programs and not found
