# SPDX-License-Identifier: Apache-2.0
"""A process that runs documents, so that filax is imported once.

  python document_worker.py WORLD

makes the world, and then reads a line of JSON for each document: {"folder", "steps"}, where a step
is ("filax" | "bash" | "python" | "write", text). It answers with a line {"failed", "output",
"seconds"}: the step that failed or "", the end of what was printed, and the time of each step.
"""

from collections.abc import Iterator
import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

from free_ports import free_port
from stand_ins import ENDS_WITH

from filax.cli.main import main

ADDRESS = "127.0.0.1:8000"  # Where documents expect `filax serve`.
SERVER_SECONDS = 120.0


class StepError(Exception):
  """A command or a block that failed, in words."""


class Server:
  """The newest `filax serve` of all documents; the same command is started once."""

  def __init__(self) -> None:
    self.words: list[str] = []
    self.process: subprocess.Popen | None = None
    self.address = ADDRESS

  def start(self, words: list[str]) -> None:
    """Starts the command at a free port, unless it runs; waits until it answers."""
    if words == self.words and self.process is not None and self.process.poll() is None:
      return
    self.stop()
    port = free_port()
    command = [sys.executable, "-m", "filax", *words, "--port", str(port)]
    self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert self.process.stdout is not None
    if "http://" not in self.process.stdout.readline():
      raise StepError(f"filax {' '.join(words)} did not start.")
    self.words = words
    self.address = f"127.0.0.1:{port}"

  def stop(self) -> None:
    """Ends the server as Ctrl-C does."""
    if self.process is None:
      return
    self.process.send_signal(signal.SIGINT)
    code = self.process.wait(SERVER_SECONDS)
    self.process = None
    if code:
      raise StepError(f"filax {' '.join(self.words)} ended with code {code}.")


class DocumentRun:
  """The steps of one document, in its folder and with names of its own."""

  def __init__(self, folder: str, server: Server, files: str, prepared: frozenset[str]):
    self._here = os.path.abspath(folder)
    self._server = server
    self._files = files  # The address of a web server of the world's files.
    self._prepared = set(prepared)  # Runs of the world, which commands of the document replace.
    self._names: dict = {"__name__": "__document__"}

  def run(self, kind: str, text: str) -> None:
    """Runs a step; raises what it raises, or StepError."""
    text = text.replace(ADDRESS, self._server.address).replace("{here}", self._here)
    text = text.replace("{files}", self._files)
    if kind == "write":
      name, _, content = text.partition("\n")
      pathlib.Path(name).write_text(content)
    elif kind == "python":
      exec(compile(text, "<document>", "exec"), self._names)
    elif text.startswith("export "):
      self._export(text)
    elif kind == "filax":
      self._run_filax(self._expanded(text)[1:])
    else:
      done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=False)
      if done.returncode:
        raise StepError(f"It ended with code {done.returncode}.")

  def _expanded(self, text: str) -> list[str]:
    """The words of a command as bash passes them on."""
    done = subprocess.run(
      ["bash", "-uc", f"printf '%s\\0' {text}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]

  def _export(self, text: str) -> None:
    for word in self._expanded(text)[1:]:
      name, _, value = word.partition("=")
      if name == "PYTHONPATH":  # That of the tests stays: it stands for an installed FiLax.
        sys.path[:0] = [os.path.join(self._here, path) for path in value.split(":")]
        value = f"{value}:{os.environ[name]}"
      os.environ[name] = value

  def _run_filax(self, words: list[str]) -> None:
    if words[0] == "serve":
      self._server.start(words)
      return
    if words[0] == "plan":  # The compiler for TPUs refuses the flags of that for CPUs.
      environment = os.environ | {"XLA_FLAGS": ""}
      subprocess.run([sys.executable, "-m", "filax", *words], env=environment, check=True)
      return
    for option in ("--workdir", "--out"):
      if option in words:
        self._forget_prepared(words[words.index(option) + 1])
    code = main(words)
    command = f"filax {' '.join(words)}"
    expected = [code for begins, code in ENDS_WITH.items() if command.startswith(begins)]
    if code != (expected or [0])[0]:
      raise StepError(f"It ended with code {code}.")

  def _forget_prepared(self, output: str) -> None:
    """Moves a run of the world out of the way of a command that makes it, once."""
    if output in self._prepared:
      os.rename(output, f"{output}.prepared")
      self._prepared.discard(output)


@contextlib.contextmanager
def surroundings(folder: str, log: pathlib.Path):
  """Runs a document in its folder, with its output in a file; takes back what it changed."""
  before = os.getcwd()
  environment = dict(os.environ)
  path = list(sys.path)
  modules = set(sys.modules)
  sys.stdout.flush()
  saved = (os.dup(1), os.dup(2))
  with open(log, "wb") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
  os.chdir(folder)
  try:
    yield
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, copy in enumerate(saved, 1):
      os.dup2(copy, number)
      os.close(copy)
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
      if name.partition(".")[0] in ("configs", "motion_selector", "mine"):
        del sys.modules[name]


@contextlib.contextmanager
def served_files(folder: pathlib.Path) -> Iterator[str]:
  """Serves the files of a folder over HTTP; its address."""
  handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
    threading.Thread(target=files.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{files.server_port}"
    files.shutdown()


def cpu_seconds() -> float:
  """CPU time of this process and of those that it has waited for."""
  return sum(os.times()[:4])


def run_document(request: dict, server: Server, files: str) -> dict:
  """Runs the steps until one fails; returns what the tests read."""
  folder = request["folder"]
  log = pathlib.Path(folder, "document.log")
  prepared = {str(path.parent) for path in pathlib.Path(folder).glob("runs/**/checkpoints")}
  relative = frozenset(os.path.relpath(path, folder) for path in prepared)
  failed = ""
  seconds = []
  with surroundings(folder, log):
    document = DocumentRun(folder, server, files, relative)
    for kind, text in request["steps"]:
      start = cpu_seconds(), time.monotonic()
      print(f"$ {text}", flush=True)
      try:
        document.run(kind, text)
      except (Exception, SystemExit) as error:
        if not isinstance(error, StepError):
          traceback.print_exc()
        failed = f"{text}\n{error}"
        break
      finally:
        cpu, wall = cpu_seconds() - start[0], time.monotonic() - start[1]
        seconds.append((round(cpu, 2), round(wall, 2), text[:100]))
  output = re.sub(r"\r[^\n]*", "", log.read_text(errors="replace"))
  return dict(failed=failed, output=output[-6000:], seconds=seconds)


def serve_documents(world: pathlib.Path) -> None:
  """Makes the world and runs documents until the input ends."""
  from document_world import make_world

  requests = os.fdopen(os.dup(0))
  answers = os.fdopen(os.dup(1), "w")
  nothing = os.open(os.devnull, os.O_RDONLY)
  os.dup2(nothing, 0)  # Commands that read questions find none.
  os.dup2(2, 1)  # What commands print is not an answer.
  start = cpu_seconds()
  make_world(world)
  print(json.dumps(dict(cpu=cpu_seconds() - start)), file=answers, flush=True)
  server = Server()
  try:
    with served_files(world) as files:
      for line in requests:
        answer = run_document(json.loads(line), server, files)
        print(json.dumps(answer), file=answers, flush=True)
  finally:
    server.stop()


if __name__ == "__main__":
  serve_documents(pathlib.Path(sys.argv[1]))
