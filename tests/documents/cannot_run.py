# SPDX-License-Identifier: Apache-2.0
"""Commands of documents that no test runs here, each with the reason.

A reason has the beginnings of its commands. tests/test_docs_commands.py parses them all the same.
test_cannot_run.py says how many there may be, and that each still stands in a document.
"""

CANNOT_RUN = {
  "downloads packages": (
    "pip install 'filax[benchmarks]'",
    "pip install 'filax[convert,gguf]'",
    "pip install 'filax[convert]'",
    "pip install 'filax[demo]'",
    "pip install 'filax[gpu]'",
    "pip install 'filax[serve]'",
    "pip install 'filax[tpu]'",
    "pip install lmms-eval",
    "pip install pre-commit",
    "python tests/fetch_packages.py packages",
  ),
  "sets up .venv; .ci/run does it": (
    "make setup",
    "make check",
    "make demo",
    "source .venv/bin/activate",
  ),
  "compares two clones for half an hour; tests/test_same.py runs its parts": (
    "git worktree add ../before main",
    "python -m benchmarks.same record ../before",
    "python -m benchmarks.same record . ",
    "python -m benchmarks.same compare",
  ),
  "measures speed for minutes on an idle machine; tests/speed runs the parts": (
    "python -m benchmarks  ",
    "python -m benchmarks --full",
    "python -m benchmarks --rows",
    "python -m benchmarks.long_video",
    "python -m benchmarks.page_speed",
    "python -m benchmarks.serving_speed",
    "make soak",
  ),
  "needs a GPU": ("benchmarks/gpu.sh",),
  "needs a camera": ("filax watch --checkpoint runs/demo/stage2 --source /dev/video0",),
  "uploads to a hub; tests/test_push.py does it to a fake one": (
    "filax push runs/demo/stage2 --repo me/fila-demo --license",
  ),
  "runs in lmms-eval's environment; make test-lmms-eval does it": (
    "export FILAX_PYTHON=",
    "python -m lmms_eval",
  ),
  "needs packages of released weights and photographs; tests/test_real_pictures.py runs it": (
    "export PYTHONPATH=examples/real_pictures",
    "python examples/real_pictures/prepare.py",
    "filax train --config examples/real_pictures/config.py",
    "filax chat --checkpoint runs/real_pictures/run",
  ),
}


def reason_not_to_run(line: str) -> str:
  """Why a line of a document does not run here; "" if it does."""
  for reason, beginnings in CANNOT_RUN.items():
    if line.startswith(beginnings):
      return reason
  return ""
