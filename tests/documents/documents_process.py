# SPDX-License-Identifier: Apache-2.0
"""The process in which documents run, and the folders that it needs."""

from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import subprocess
import sys

from compile_flags import QUICK
from document_steps import Step

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
CURL = "fail-with-body\nsilent\nshow-error\n"  # An error of the server is an error of the command.


class DocumentsProcess:
  """Runs documents, each in its copy of one world, in one process."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._world = folder / "world"
    self._world.mkdir()
    (folder / ".curlrc").write_text(CURL)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))
    # One device, as on a laptop: the tests' own process pretends to have eight.
    settings = dict(
      PATH=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
      PYTHONPATH=path,
      JAX_PLATFORMS="cpu",
      XLA_FLAGS=QUICK,
      FILAX_CACHE=str(folder / "cache"),
      CURL_HOME=str(folder),
      PYTHONDONTWRITEBYTECODE="1",
    )
    self._errors = open(folder / "worker.log", "w")
    self._process = subprocess.Popen(
      [sys.executable, str(HERE / "document_worker.py"), str(self._world)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      env=os.environ | settings,
      text=True,
    )
    self.made = self._answer()

  def __enter__(self) -> "DocumentsProcess":
    return self

  def __exit__(self, *error: object) -> None:
    assert self._process.stdin is not None
    self._process.stdin.close()
    code = self._process.wait(120)
    self._errors.close()
    assert code == 0, (self._folder / "worker.log").read_text()[-3000:]

  def run(self, document: str, steps: Sequence[Step]) -> dict:
    """Runs the steps of a document in a copy of the world; returns what happened."""
    copy = self._folder / document.replace("/", "_")
    shutil.copytree(self._world, copy, symlinks=True)
    assert self._process.stdin is not None
    print(json.dumps(dict(folder=str(copy), steps=steps)), file=self._process.stdin, flush=True)
    return self._answer()

  def _answer(self) -> dict:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError((self._folder / "worker.log").read_text()[-6000:])
    return json.loads(line)
