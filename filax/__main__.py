# SPDX-License-Identifier: Apache-2.0
"""python -m filax <verb> ...: the command `filax`."""

import sys

from filax.cli.main import main

if __name__ == "__main__":
  sys.exit(main())
