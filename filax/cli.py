# SPDX-License-Identifier: Apache-2.0
"""How every command ends: a result, or one sentence on stderr and exit code 2."""

from collections.abc import Callable, Sequence
import os
import sys


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str], verb: str) -> int:
  """main(argv) -> exit code. User errors (ValueError, OSError) are printed without a traceback.

  FILAX_DEBUG=1 lets the traceback through.
  """
  try:
    return main(argv) or 0
  except (ValueError, OSError) as error:
    if os.environ.get("FILAX_DEBUG"):
      raise
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"filax {verb}: {text}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"filax {verb}: stopped.", file=sys.stderr)
    return 130
