# SPDX-License-Identifier: Apache-2.0
"""Commands read and write UTF-8, whatever the encoding of the locale is."""

import os
import sys


def restart_in_utf8() -> None:
  """Starts Python again, in its UTF-8 mode, if necessary.

  It is necessary under a locale with another encoding, such as zh_CN.GBK or en_US: it cannot write
  all names of a manifest, whose media would count as missing. The process, its arguments and its
  streams stay the same.
  """
  if sys.getfilesystemencoding() == "utf-8":
    return
  arguments = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
  environment = os.environ | dict(PYTHONUTF8="1")  # Of the processes that this one starts.
  os.execve(sys.executable, arguments, environment)
