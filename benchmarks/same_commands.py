# SPDX-License-Identifier: Apache-2.0
"""Commands of a checkout, run in processes of their own.

A checkout is chosen by PYTHONPATH alone; environment variables that jax, XLA or FiLax read are not
passed on. Commands run in a folder that is the same for every checkout and take relative paths, so
that their output contains no paths of the checkout.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import subprocess
import sys

FILAX = ("-m", "filax")
_HIDDEN = ("JAX_", "XLA_", "FILAX_", "LIBTPU_", "TPU_", "PYTHON")


@dataclasses.dataclass(frozen=True)
class Checkout:
  """A source tree of the project.

  flags: XLA_FLAGS of every command. logs: the folder of their logs.
  """

  root: pathlib.Path
  logs: pathlib.Path
  flags: str = ""

  def run_python(
    self,
    folder: pathlib.Path,
    name: str,
    argv: Sequence[str],
    flags: str = "",
    questions: str = "",
    accepted: Sequence[int] = (0,),
  ) -> str:
    """Runs Python with `argv` in a folder and returns its standard output.

    `flags` are XLA flags besides those of the checkout, `questions` the standard input. Raises
    RuntimeError for an exit code that is not among `accepted`.
    """
    log = self.logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
      [sys.executable, *argv],
      cwd=folder,
      env=self._environment(flags),
      input=questions,
      capture_output=True,
      text=True,
      check=False,
    )
    log.write_text(f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}")
    if done.returncode not in accepted:
      last = "\n".join(done.stderr.strip().splitlines()[-8:])
      raise RuntimeError(f"{name} ended with exit code {done.returncode} ({log}):\n{last}")
    return done.stdout

  def config(self, argument: str) -> str:
    """The path of a config of this checkout.

    "fila_toy.py:stage=1" -> ".../fila_toy.py:stage=1".
    """
    return str(self.root / "configs" / argument)

  def _environment(self, flags: str) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
    return kept | {
      "JAX_PLATFORMS": "cpu",
      "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",  # No source positions in programs.
      "PYTHONDONTWRITEBYTECODE": "1",
      "PYTHONPATH": str(self.root),
      "XLA_FLAGS": f"{self.flags} {flags}".strip(),
    }
